//! Every public function of the framework has documentation with an example, which runs as a test.

use std::path::{Path, PathBuf};

/// The sources below a folder.
fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, into),
            false if path.extension().is_some_and(|e| e == "rs") => into.push(path),
            false => {}
        }
    }
}

/// The name, if a line begins a public function.
fn public_function(line: &str) -> Option<&str> {
    let mut rest = line.trim_start().strip_prefix("pub ")?;
    for word in ["const ", "unsafe ", "async "] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let name = rest.strip_prefix("fn ")?;
    name.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

/// The name, if a line is the row of a table that a macro makes functions of.
fn row<'a>(line: &'a str, before: &str) -> Option<&'a str> {
    let name = line.strip_prefix("    ")?.split(' ').next()?;
    let documented = before.starts_with("    /// ") && line.ends_with(';');
    let word = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let item =
        ["pub", "type", "const", "static", "use", "mod", "fn", "let", "struct", "enum", "unsafe"]
            .contains(&name);
    (documented && word && !item).then_some(name)
}

#[test]
fn every_public_function_has_an_example() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (mut count, mut lacking) = (0, Vec::new());
    for name in ["core", "io"] {
        let mut files = Vec::new();
        sources(&crates.join(name).join("src"), &mut files);
        files.sort();
        // A file that is all tests documents nothing.
        for file in files.iter().filter(|f| f.file_name().is_some_and(|n| n != "tests.rs")) {
            let text = std::fs::read_to_string(file).unwrap();
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            let lines: Vec<&str> = text.lines().collect();
            // Tables whose macro makes an example of each row.
            let of_rows = |i: usize| {
                let open = lines[..i].iter().rev().find_map(|l| l.strip_suffix("! {"));
                open.is_some_and(|name| {
                    let rules = text.split(&format!("macro_rules! {name} {{")).nth(1);
                    rules
                        .and_then(|t| t.split("\n}").next())
                        .is_some_and(|t| t.contains("example!("))
                })
            };
            for (i, line) in lines.iter().enumerate() {
                let named = public_function(line).filter(|name| !name.is_empty());
                let in_table = || row(line, lines[..i].last()?).filter(|_| !of_rows(i));
                let Some(function) = named.or_else(in_table) else { continue };
                let above = lines[..i].iter().rev().take_while(|l| {
                    let l = l.trim_start();
                    l.starts_with("///") || l.starts_with("#[")
                });
                count += 1;
                if !above.into_iter().any(|l| l.contains("```")) {
                    let place = file.strip_prefix(&crates).unwrap().display();
                    lacking.push(format!("{place}:{}: {function}", i + 1));
                }
            }
        }
    }
    assert!(count > 400, "only {count} public functions were found");
    assert!(lacking.is_empty(), "without an example:\n{}", lacking.join("\n"));
}
