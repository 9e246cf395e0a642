//! The program as a person runs it.

use std::io::Write;
use std::process::{Command, Output, Stdio};

fn lazul(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lazul"));
    command.args(args).env_remove("LAZUL_LOG").stdin(Stdio::null());
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
    let cases: [(&[&str], i32, &str); 7] = [
        (&["generate", "--model", "/nowhere/at/all"], 1, "/nowhere/at/all"),
        (&["generate", "--temp=-1"], 1, "temp must be"),
        (&["generate", "--temp=nan"], 1, "temp"),
        (&["generate", "--top-p", "7"], 1, "top_p"),
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
