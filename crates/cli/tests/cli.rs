//! The program as a person runs it.

use std::io::Write;
use std::process::{Command, Output, Stdio};

fn lazul(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lazul"));
    command.args(args).env_remove("LAZUL_LOG").env("HF_HUB_OFFLINE", "1").stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    lazul(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const SHORT: [&str; 7] =
    ["generate", "--prompt", "The borrow checker", "--max-tokens", "16", "--temp", "0"];

#[test]
fn text_goes_to_stdout_and_figures_to_stderr() {
    let out = run(&SHORT);
    assert!(out.status.success());
    let (shown, said) = (text(&out.stdout), text(&out.stderr));
    assert!(shown.split_whitespace().count() > 5, "{shown}");
    for line in ["==========", "Prompt: 3 tokens", "Generation: 16 tokens", "Peak memory:"] {
        assert!(said.contains(line), "{said}");
    }
    let quiet = run(&[&SHORT[..], &["--quiet"]].concat());
    assert_eq!(text(&quiet.stdout), shown);
    assert_eq!(text(&quiet.stderr), "");
}

#[test]
fn threads_and_fusion_do_not_change_the_text() {
    let with = |name: &str, value: &str| {
        let out = lazul(&SHORT).env(name, value).output().unwrap();
        assert!(out.status.success());
        text(&out.stdout)
    };
    let one = with("LAZUL_NUM_THREADS", "1");
    assert_eq!(one, with("LAZUL_NUM_THREADS", "2"));
    assert_eq!(one, with("LAZUL_NUM_THREADS", "3"));
    assert_eq!(one, with("LAZUL_FUSION", "0"));
}

#[test]
fn a_device_is_named_or_refused() {
    let out = run(&[&SHORT[..], &["--quiet"]].concat());
    let cpu = run(&[&SHORT[..], &["--quiet", "--device", "cpu"]].concat());
    assert_eq!(text(&cpu.stdout), text(&out.stdout));
    // No machine has so many; the reason is one line.
    let none = run(&[&["--device", "cuda:63"], &SHORT[..]].concat());
    assert_eq!(none.status.code(), Some(1));
    let said = text(&none.stderr);
    assert!(
        said.starts_with("error: cuda:63 cannot be used: ") && said.lines().count() == 1,
        "{said}"
    );
    let wrong = run(&[&SHORT[..], &["--device", "gpu"]].concat());
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("devices are auto, cpu, cuda and cuda:1"));
    let asked = lazul(&SHORT).env("LAZUL_DEVICE", "cuda:63").output().unwrap();
    assert_eq!(asked.status.code(), Some(1));
}

#[test]
fn a_seed_fixes_a_draw() {
    let draw = |seed: &str| {
        let args =
            ["generate", "-p", "Iterators", "-m", "12", "--temp", "0.9", "--seed", seed, "-q"];
        text(&run(&args).stdout)
    };
    assert_eq!(draw("7"), draw("7"));
    assert_ne!(draw("7"), draw("8"));
}

#[test]
fn json_is_one_object() {
    let out = run(&[&SHORT[..], &["--json"]].concat());
    let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(report["generation_tokens"], 16);
    assert_eq!(report["finish_reason"], "length");
    assert_eq!(report["tokens"].as_array().unwrap().len(), 16);
    assert!(report["text"].as_str().unwrap().len() > 10);
}

#[test]
fn a_dash_reads_the_prompt_from_stdin() {
    let mut child = lazul(&["generate", "-p", "-", "-m", "16", "--temp", "0", "-q"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"The borrow checker").unwrap();
    let out = child.wait_with_output().unwrap();
    assert_eq!(text(&out.stdout), text(&run(&[&SHORT[..], &["-q"]].concat()).stdout));
}

#[test]
fn stop_strings_end_the_text() {
    let full = text(&run(&[&SHORT[..], &["-q"]].concat()).stdout);
    let word = full.split_whitespace().nth(3).unwrap();
    let out = run(&[&SHORT[..], &["-q", "--stop", word]].concat());
    let cut = text(&out.stdout);
    assert!(full.starts_with(cut.trim_end_matches('\n')) && !cut.contains(word), "{cut:?}");
}

#[test]
fn wrong_arguments_are_explained() {
    let cases: [(&[&str], i32, &str); 12] = [
        (&["generate", "--model", "/nowhere/at/all"], 1, "/nowhere/at/all"),
        (&["generate", "--temp=-1"], 2, "--temp"),
        (&["generate", "--temp=nan"], 2, "--temp"),
        (&["generate", "--top-p", "7"], 2, "--top-p"),
        (&["generate", "--temp", "-1"], 2, "--temp"),
        (&["generate", "--prefill-step-size", "0"], 2, "--prefill-step-size"),
        (&["generate", "--model", "models/missing"], 1, "no folder models/missing"),
        (&["generate", "--chat-template-config", "{"], 1, "--chat-template-config"),
        (&["generate", "--model", "Cargo.toml"], 1, "is a file"),
        (&["generate", "--prompt", ""], 1, "no tokens"),
        (&["generate", "--system-prompt", "x"], 1, "chat template"),
        (&["frobnicate"], 2, "frobnicate"),
    ];
    for (args, code, says) in cases {
        let out = run(args);
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(says) && !said.contains("panicked"), "{args:?}: {said}");
    }
}

#[test]
fn info_describes_the_model() {
    let shown = text(&run(&["info"]).stdout);
    for fact in ["llama", "14.2 million", "4 bits in groups of 64", "memory needed"] {
        assert!(shown.contains(fact), "{shown}");
    }
    let report: serde_json::Value =
        serde_json::from_slice(&run(&["info", "--json"]).stdout).unwrap();
    assert_eq!(report["parameters"], 14_161_536);
}

#[test]
fn completions_and_manual_are_printed() {
    assert!(text(&run(&["completions", "bash"]).stdout).contains("_lazul"));
    assert!(text(&run(&["man"]).stdout).contains(".TH"));
    for command in ["generate", "chat", "info"] {
        assert!(run(&[command, "--help"]).status.success());
    }
}

/// A small model of the Llama family as a GGUF file, whose weights are blocks of Q8_0.
fn gguf(path: &std::path::Path, architecture: &str) {
    use lazul_core::{Array, BlockFormat, Quantization, Quantized};
    use lazul_io::gguf::{GgufArray, GgufList, GgufValue, save_gguf_with};
    let (d, words) = (32, ["<unk>", "<s>", "</s>", "▁", "a", "b", "ab", "▁ab"]);
    let norm = Array::from_slice(&vec![1f32; d], [d]);
    let matrix = |rows: usize| {
        let mut bytes: Vec<u8> = (0..rows * 34).map(|i| (i * 7 % 64) as u8).collect();
        bytes.chunks_exact_mut(34).for_each(|block| block[..2].copy_from_slice(&[0, 0x1c]));
        let form = Quantization::Blocks(BlockFormat::Q8_0);
        let codes = Array::from_slice(&bytes, [rows, 34]);
        Quantized { codes, scales: None, biases: None, global_scale: None, form }
    };
    let (square, table) = (matrix(d), matrix(words.len()));
    let mut arrays = vec![
        ("token_embd.weight".to_owned(), GgufArray::Blocks(&table)),
        ("output_norm.weight".to_owned(), GgufArray::Dense(&norm)),
    ];
    for name in ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"] {
        arrays.push((format!("blk.0.{name}.weight"), GgufArray::Blocks(&square)));
    }
    for name in ["attn_norm", "ffn_norm"] {
        arrays.push((format!("blk.0.{name}.weight"), GgufArray::Dense(&norm)));
    }
    let n = GgufValue::U32;
    let types = GgufList::I32(vec![2, 3, 3, 1, 1, 1, 1, 1]);
    let metadata = [
        ("general.architecture", GgufValue::Text(architecture.into())),
        ("llama.context_length", n(64)),
        ("llama.embedding_length", n(d as u32)),
        ("llama.block_count", n(1)),
        ("llama.feed_forward_length", n(d as u32)),
        ("llama.attention.head_count", n(4)),
        ("llama.attention.layer_norm_rms_epsilon", GgufValue::F32(1e-5)),
        ("tokenizer.ggml.model", GgufValue::Text("llama".into())),
        ("tokenizer.ggml.tokens", GgufValue::List(GgufList::Text(words.iter().collect()))),
        ("tokenizer.ggml.token_type", GgufValue::List(types)),
        ("tokenizer.chat_template", GgufValue::Text("{{ messages[0].content }}".into())),
    ];
    save_gguf_with(path, arrays, &metadata).unwrap();
}

#[test]
fn gguf_files_are_models() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.gguf");
    let file = path.to_str().unwrap();
    gguf(&path, "llama");
    let args = ["generate", "--model", file, "-p", "ab ab", "-m", "5", "--temp", "0"];
    let out = run(&args);
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("Prompt: 2 tokens"), "{}", text(&out.stderr));
    assert_eq!(text(&run(&args).stdout), text(&out.stdout));
    let shown = text(&run(&["info", file]).stdout);
    for fact in ["llama", "7520", "Q8_0, blocks of GGUF", "chat template   yes"] {
        assert!(shown.contains(fact), "{shown}");
    }
    let says = |args: &[&str], what: &str| {
        let out = run(args);
        let said = text(&out.stderr);
        assert!(out.status.code() == Some(1) && said.contains(what), "{said}");
    };
    says(&["info", "nowhere.gguf"], "nowhere.gguf");
    gguf(&path, "mamba");
    says(&["info", file], "the architecture \"mamba\" is not one of llama");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.truncate(bytes.len() - 64);
    std::fs::write(&path, &bytes).unwrap();
    says(&["info", file], "bytes of data");
    std::fs::write(&path, b"not a model").unwrap();
    says(&["info", file], "not a GGUF file");
}
