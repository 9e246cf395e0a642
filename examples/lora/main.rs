//! Fine-tuning by low-rank adapters: a small language model that learned to read numbers ("forty two" is 42) learns
//! to read days ("twenty one may" is 2105), while itself it stays as it was.
//!
//! Both tasks are made here. What counts are answers to questions that were never shown, right to the last letter.

use lazul::lm::generate::{GenerateOptions, Tokens};
use lazul::lm::models::LanguageModel;
use lazul::lm::text::{TextFiles, TextModel};
use lazul::lm::tune::{
    Batch, Example, TrainOptions, TuneConfig, batches, load_adapters, loss, prepare, sizes, train,
};
use lazul::nn::Trainable;
use lazul::nn::optim::{Adam, cosine_decay, join_schedules, linear_schedule};
use lazul::nn::train::{FitOptions, Session, fit};
use lazul::prelude::*;
use lazul_examples::progress;

type Model = Box<dyn LanguageModel>;
const LETTERS: &str = "$=0123456789 abcdefghijklmnopqrstuvwxyz";
const ONES: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 10] =
    ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// A number below a thousand in words.
fn words(n: usize) -> String {
    let below_hundred = |n: usize| match n {
        0..20 => ONES[n].to_string(),
        _ if n.is_multiple_of(10) => TENS[n / 10].to_string(),
        _ => format!("{} {}", TENS[n / 10], ONES[n % 10]),
    };
    match (n / 100, n % 100) {
        (0, rest) => below_hundred(rest),
        (hundreds, 0) => format!("{} hundred", ONES[hundreds]),
        (hundreds, rest) => format!("{} hundred {}", ONES[hundreds], below_hundred(rest)),
    }
}

/// Questions and answers in an order that a seed gives: most to learn, the last hundred to be asked.
fn split(mut all: Vec<(String, String)>, seed: u64) -> lazul::Result<[Vec<(String, String)>; 2]> {
    let order = random::permutation(all.len(), Some(&random::key(seed))).to_vec::<u32>()?;
    all = order.into_iter().map(|i| all[i as usize].clone()).collect();
    let asked = all.split_off(all.len() - 100);
    Ok([all, asked])
}

fn examples(pairs: &[(String, String)], text: &TextModel) -> lazul::lm::Result<Vec<Example>> {
    let row = |(question, answer): &(String, String)| {
        let tokens = text.tokenizer().encode(&format!("{question}={answer}$"), false)?;
        // The question is no part of the loss.
        Ok(Example { tokens, offset: question.len() + 1 })
    };
    pairs.iter().map(row).collect()
}

/// How many questions are answered right.
fn right(model: &Model, pairs: &[(String, String)], text: &TextModel) -> lazul::lm::Result<usize> {
    let mut count = 0;
    let options = GenerateOptions { max_tokens: 12, ..Default::default() };
    for (question, answer) in pairs {
        let prompt = text.tokenizer().encode(&format!("{question}="), false)?;
        let mut cache = model.new_cache();
        let mut said = String::new();
        for token in Tokens::new(&**model, &prompt, &mut cache, &options, |_, _| ())? {
            match token? {
                0 => break,
                token => said.extend(LETTERS.chars().nth(token as usize)),
            }
        }
        count += usize::from(said == *answer);
    }
    Ok(count)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let vocab: serde_json::Map<_, _> =
        LETTERS.chars().enumerate().map(|(i, c)| (c.to_string(), i.into())).collect();
    let json = serde_json::json!({ "model": { "type": "BPE", "vocab": vocab, "merges": [] } });
    let json = json.to_string();
    let files = TextFiles { tokenizer_json: Some(json.as_bytes()), ..Default::default() };
    let text = TextModel::load(&files)?;
    let numbers = split((0..1000).map(|n| (words(n), n.to_string())).collect(), 0)?;
    let day = |i: usize| {
        let (day, month) = (i % 28 + 1, i / 28);
        (format!("{} {}", words(day), MONTHS[month]), format!("{day:02}{:02}", month + 1))
    };
    let days = split((0..12 * 28).map(day).collect(), 1)?;

    // The base, of nothing but numbers.
    let config = serde_json::json!({
        "model_type": "llama", "vocab_size": LETTERS.len(), "hidden_size": 96, "intermediate_size": 256,
        "num_hidden_layers": 3, "num_attention_heads": 4, "tie_word_embeddings": true,
    });
    let steps = 350;
    let rate = join_schedules(
        vec![linear_schedule(1e-5, 4e-3, 60)?, cosine_decay(4e-3, steps - 60, 1e-5)?],
        vec![60],
    )?;
    let optimizer = Adam { bias_correction: true, ..Adam::new(rate) };
    let base = Trainable::new(lazul::lm::pretrain::init(&config, 0)?);
    let mut session = Session::new(base, &optimizer, 0)?;
    let mut loader = batches(examples(&numbers[0], &text)?, 32, 64, 0)?;
    let how = FitOptions {
        steps: steps.into(),
        report_every: 100,
        clip: Some(1.0),
        ..Default::default()
    };
    let of = |m: &mut Trainable<Model>, batch: &Batch| loss(&***m, batch);
    fit(&mut session, &optimizer, &mut loader, of, None, &how, &mut progress(how.steps))?;
    let base = session.model.into_inner();
    println!("base: {} of 100 numbers", right(&base, &numbers[1], &text)?);
    println!("base: {} of 100 days", right(&base, &days[1], &text)?);

    // Adapters beside its matrices, of nothing but days.
    let folder = tempfile::tempdir()?;
    let options = serde_json::json!({
        "adapter_path": folder.path().to_str(), "iters": 400, "batch_size": 32,
        "lr_schedule": { "name": "cosine_decay", "warmup": 50, "arguments": [2e-3, 350, 1e-5] },
        "optimizer_config": { "adam": { "bias_correction": true } },
        "steps_per_report": 100, "save_every": 400,
        "lora_parameters": { "rank": 16, "scale": 4.0, "dropout": 0.0 },
    });
    let config = TuneConfig::merged(&[options.as_object().ok_or("no options")?])?;
    let tuned = prepare(base.clone(), &config)?;
    let (trained, all) = sizes(&tuned)?;
    println!("adapters: {trained} of {all} parameters");
    let rows = examples(&days[0], &text)?;
    train(tuned, &config, rows, &[], &TrainOptions::default(), &mut progress(config.iters))?;
    let mut adapted = base.clone();
    load_adapters(&mut adapted, folder.path())?;
    println!("with adapters: {} of 100 days", right(&adapted, &days[1], &text)?);
    println!("without them again: {} of 100 numbers", right(&base, &numbers[1], &text)?);
    Ok(())
}
