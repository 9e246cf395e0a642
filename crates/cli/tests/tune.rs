//! Fine-tuning as a person runs it: train, test, generate with adapters, merge, generate.

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn lazul(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lazul"));
    command.args(args).current_dir(folder).env_remove("LAZUL_LOG").env("HF_HUB_OFFLINE", "1");
    command.stdin(Stdio::null()).output().unwrap()
}

fn well(folder: &Path, args: &[&str]) -> (String, String) {
    let out = lazul(folder, args);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    assert!(out.status.success(), "{args:?}: {}", text(&out.stderr));
    (text(&out.stdout), text(&out.stderr))
}

fn badly(folder: &Path, args: &[&str]) -> String {
    let out = lazul(folder, args);
    assert_eq!(out.status.code(), Some(1), "{args:?}");
    String::from_utf8(out.stderr).unwrap()
}

/// A folder with a data set that has one sentence to learn.
fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let row =
        "{\"text\": \"The quick brown crab borrows nothing and returns everything at dawn.\"}\n";
    for name in ["train", "valid", "test"] {
        std::fs::write(data.join(format!("{name}.jsonl")), row.repeat(4)).unwrap();
    }
    place
}

const TRAIN: [&str; 13] = [
    "lora",
    "--train",
    "--test",
    "--num-layers",
    "-1",
    "--batch-size",
    "2",
    "--learning-rate",
    "3e-4",
    "--steps-per-report",
    "5",
    "--save-every",
    "10",
];
const ASK: [&str; 7] = ["generate", "-p", "The quick brown", "-m", "12", "-q", "--temp=0"];

#[test]
fn a_sentence_is_learned_kept_and_merged() {
    let place = place();
    let at = place.path();
    let (out, said) = well(at, &[&TRAIN[..], &["--iters", "20"]].concat());
    for line in [
        "Loading pretrained model\nLoading datasets\nTraining\n╭─ lazul lora ─",
        "Trainable parameters: ",
        "  iter   train_loss     tok/s     tokens\n     1    val ",
        "\n    20    ",
        "\n  save  0000010_adapters.safetensors\n",
        "\nTesting\nTest loss ",
    ] {
        assert!(out.contains(line), "{line:?} in {out}{said}");
    }
    let number = |after: &str| -> f64 {
        let rest = out.rsplit_once(after).unwrap().1;
        let end = rest.find([',', ' ']).unwrap();
        rest[..end].parse().unwrap()
    };
    assert!(number("Test loss ") < 1.0, "{out}");
    let adapters = at.join("adapters");
    for file in [
        "adapters.safetensors",
        "0000010_adapters.safetensors",
        "0000020_adapters.safetensors",
        "adapter_config.json",
        "metrics.jsonl",
        "loss.html",
    ] {
        assert!(adapters.join(file).is_file(), "{file}");
    }
    let (plain, _) = well(at, &ASK);
    let (tuned, _) = well(at, &[&ASK[..], &["--adapter-path", "adapters"]].concat());
    assert!(tuned.contains("crab borrows nothing and returns"), "{tuned}");
    assert_ne!(plain, tuned);
    let (out, _) = well(at, &["fuse", "--dequantize"]);
    assert!(out.contains("Dequantizing model\n") && out.contains("fused_model"), "{out}");
    let (merged, _) = well(at, &[&ASK[..], &["--model", "./fused_model"]].concat());
    assert!(merged.contains("crab borrows nothing and returns"), "{merged}");
    assert!(badly(at, &["fuse"]).contains("exists already"));
    // The folder holds a training, which is gone on with or left alone.
    let again = badly(at, &[&TRAIN[..], &["--iters", "22"]].concat());
    assert!(again.contains("holds a training already"), "{again}");
    let (out, _) = well(at, &[&TRAIN[..], &["--iters", "22", "--resume"]].concat());
    assert!(out.contains("  resume  after 20\n"), "{out}");
}

#[test]
fn what_is_wrong_is_said() {
    let place = place();
    let at = place.path();
    std::fs::write(at.join("c.yaml"), "train: true\nlora_parameters: {rank: 2, alpha: 4}\n")
        .unwrap();
    std::fs::write(at.join("typo.yaml"), "train: true\nlearning_rte: 1\n").unwrap();
    std::fs::write(at.join("data/test.jsonl"), "{\"question\": 1}\n").unwrap();
    for (args, said) in [
        (&["lora"][..], "at least one of --train or --test"),
        (&["lora", "--train", "--data", "nowhere"], "no folder nowhere"),
        (&["lora", "-c", "c.yaml"], "alpha"),
        (&["lora", "-c", "typo.yaml"], "there is no option learning_rte"),
        (&["lora", "-c", "none.yaml"], "none.yaml"),
        (&["lora", "--train", "--num-layers", "99"], "99 layers"),
        (&["lora", "--train", "--mask-prompt"], "no prompt that could be masked"),
        (&["lora", "--train", "--batch-size", "5"], "make no batch of 5"),
        (&["lora", "--test"], "neither prompt and completion"),
        (&["generate", "--adapter-path", "nowhere"], "--adapter-path"),
        (&["fuse", "--adapter-path", "data"], "adapter_config.json"),
    ] {
        let error = badly(at, args);
        assert!(error.contains(said), "{args:?}: {error}");
        assert!(error.lines().count() == 1, "{error}");
    }
    assert!(!at.join("fused_model").exists());
}

#[test]
fn a_model_is_made_of_texts() {
    let place = tempfile::tempdir().unwrap();
    let at = place.path();
    std::fs::create_dir(at.join("texts")).unwrap();
    let text = "one fish two fish red fish blue fish. ".repeat(60);
    std::fs::write(at.join("texts/a.txt"), text).unwrap();
    let small = [
        "train",
        "--data",
        "texts",
        "--layers",
        "2",
        "--dim",
        "32",
        "--heads",
        "2",
        "--context",
        "16",
        "--batch-size",
        "8",
        "--learning-rate",
        "1e-2",
        "--steps-per-report",
        "10",
    ];
    let (out, said) = well(at, &[&small[..], &["--iters", "150"]].concat());
    assert!(out.contains("Saved model to trained_model"), "{out}");
    assert!(said.contains("step 150/150: loss") && said.contains("validation loss"), "{said}");
    let ask = [
        "generate",
        "--model",
        "./trained_model",
        "-p",
        "one fish two",
        "-m",
        "6",
        "-q",
        "--temp=0",
    ];
    let (out, _) = well(at, &ask);
    assert!(out.contains("fish red fish"), "{out}");
    assert!(badly(at, &small).contains("holds a model already"));
    let other = [&small[..], &["--iters", "150", "--resume", "--seed", "1"]].concat();
    assert!(badly(at, &other).contains("the training here was of"));
    assert_eq!(well(at, &ask).0, out);
    for (wrong, said) in [
        (&["--data", "nowhere"][..], "nowhere"),
        (&["--data", "texts", "--heads", "3"], "3 heads"),
        (&["--data", "texts", "--context", "9999"], "no window of 10000"),
        (&["--data", "texts", "--context", "18446744073709551615"], "beyond what there can be"),
    ] {
        let error = badly(at, &[&["train", "--save-path", "other"], wrong].concat());
        assert!(error.contains(said), "{error}");
    }
    assert!(!at.join("other").exists());
    // What a process left that was killed before its first checkpoint is in nobody's way; a model is.
    let other = at.join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("config.json"), "{\"hidden_size\": 5").unwrap();
    std::fs::write(other.join("tokenizer.json"), "{").unwrap();
    let anew = [&small[..], &["--save-path", "other", "--iters", "2"]].concat();
    assert!(badly(at, &anew).contains("holds a model already"));
    well(at, &[&anew[..], &["--resume"]].concat());
    let described = std::fs::read_to_string(other.join("config.json")).unwrap();
    assert!(described.contains("\"hidden_size\": 32") || described.contains("\"hidden_size\":32"));
    well(at, &[&ask[..1], &["--model", "./other"], &ask[3..]].concat());
    std::fs::remove_dir_all(other.join("step-0000002")).unwrap();
    let error = badly(at, &[&anew[..], &["--resume"]].concat());
    assert!(error.contains("no checkpoint to go on from"), "{error}");
    assert_eq!(std::fs::read_to_string(other.join("config.json")).unwrap(), described);
}

#[test]
fn adapters_go_to_peft_and_models_to_gguf() {
    let place = place();
    let at = place.path();
    let short = ["--iters", "4", "--val-batches", "1", "--test-batches", "1"];
    well(at, &[&TRAIN[..], &short].concat());
    let (out, _) = well(at, &["lora", "--export-peft", "peft"]);
    assert!(out.contains("adapters for PEFT to peft"), "{out}");
    assert!(at.join("peft/adapter_model.safetensors").is_file());
    let with = |adapters: &[&str]| {
        let flags = adapters.iter().flat_map(|a| ["--adapter-path", a]);
        well(at, &[&ASK[..], &flags.collect::<Vec<_>>()].concat()).0
    };
    assert_eq!(with(&["adapters"]), with(&["peft"]));
    assert!(!with(&["adapters", "peft"]).is_empty());
    let (out, _) = well(at, &["fuse", "--dequantize", "--export-gguf", "--save-path", "dense"]);
    assert!(out.contains("Converted GGUF model saved as: dense/ggml-model-f16.gguf"), "{out}");
    let ask = |model: &str| well(at, &[&ASK[..], &["--model", model]].concat()).0;
    // The words of f16 and those of bf16 begin alike.
    let (a, b) = (ask("dense"), ask("dense/ggml-model-f16.gguf"));
    assert_eq!(a.get(..8), b.get(..8), "{a:?} {b:?}");
    let (out, _) =
        well(at, &["fuse", "--q-bits", "8", "--q-group-size", "32", "--save-path", "eight"]);
    assert!(out.contains("Quantizing model to 8 bits"), "{out}");
    let config = std::fs::read_to_string(at.join("eight/config.json")).unwrap();
    assert!(config.contains("\"bits\": 8") || config.contains("\"bits\":8"), "{config}");
    assert!(!ask("eight").is_empty());
}

#[test]
fn a_model_from_nothing_is_measured() {
    let place = place();
    let at = place.path();
    let rows = "{\"text\": \"One crab and two crabs.\", \"group\": \"few\"}\n\
                {\"text\": \"Three crabs and four crabs, and more.\", \"group\": \"many\"}\n";
    std::fs::write(at.join("texts.jsonl"), rows.repeat(8)).unwrap();
    std::fs::write(at.join("held.txt"), "One crab and four crabs.\n").unwrap();
    let train = [
        "train",
        "--data",
        "texts.jsonl",
        "--valid",
        "held.txt",
        "--mix",
        "few=1,many=3",
        "--layers",
        "1",
        "--dim",
        "16",
        "--heads",
        "2",
        "--kv-heads",
        "1",
        "--ffn-dim",
        "32",
        "--context",
        "8",
        "--batch-size",
        "2",
        "--iters",
        "3",
        "--dropout",
        "0.1",
        "--dtype",
        "bfloat16",
        "--save-path",
        "made",
    ];
    well(at, &train);
    let config = std::fs::read_to_string(at.join("made/config.json")).unwrap();
    assert!(config.contains("num_key_value_heads"), "{config}");
    assert!(at.join("made/events.out.tfevents.lazul").is_file());
    let (out, _) = well(at, &["perplexity", "--model", "made", "--data", "held.txt"]);
    assert!(out.starts_with("Perplexity ") && out.contains("in windows of 8"), "{out}");
    let said = badly(at, &["perplexity", "--data", "nothing.txt"]);
    assert!(said.contains("nothing.txt"), "{said}");
    let other = [&train[..6], &["few=1", "--save-path", "other"]].concat();
    assert!(badly(at, &other).contains("\"many\" has no share"), "{:?}", badly(at, &other));
}
