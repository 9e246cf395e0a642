//! Regular expressions from tokenizer files, with a meter.
//!
//! A pattern of a tokenizer.json is someone else's program run on someone else's text. Three things
//! bound it: its form (length, nesting, no back-references, no repetition of a repetition where the
//! engine would have to backtrack), the engine's own step limit for each match, and a clock over all
//! matches of one text. Past a bound the answer is an error, never a silently shorter split.

use std::ops::Range;
use std::time::{Duration, Instant};

use fancy_regex::{Expr, LookAround, Regex, RegexBuilder};
use regex_automata::meta;
use regex_automata::{Input, PatternID};

use super::error::{Result, TextError, limit};
use super::spec::FILE;

/// GPT-2's pattern, which byte-level pre-tokenizers use by default.
pub(super) const GPT2: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// How nearly every published pattern ends: a run of blanks leaves its last one to the word after it.
const BLANKS: &str = r"|\s+(?!\S)|\s+";

/// A pattern that was found fit to run.
#[derive(Debug)]
pub(super) struct Pattern {
    engine: Engine,
}

#[derive(Debug)]
enum Engine {
    Fancy(Regex),
    /// A pattern that ends in [`BLANKS`] and has no other look-around: pattern 0 is what comes before,
    /// pattern 1 is `\s+`, whose matches are cut here. So an automaton does all the work, at several
    /// times the speed and with no stack that a long run of blanks could exhaust.
    Blanks(Box<meta::Regex>),
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// If it is not a regular expression, or not one whose work can be bounded.
    pub(super) fn new(source: &str) -> Result<Self> {
        limit("a regular expression", source.len(), 16 << 10)?;
        nesting(source)?;
        let wrong = |error: fancy_regex::Error| TextError::malformed(FILE, "regex", error);
        let tree = Expr::parse_tree(source).map_err(wrong)?;
        let mut form = Form::default();
        form.visit(&tree.expr, 0, 1)?;
        if form.looks && form.nested {
            // Without look-around the whole runs on an automaton, where nesting costs nothing.
            return Err(TextError::unsupported(
                FILE,
                "a regex with look-around and a repeated repetition",
            ));
        }
        if let Some(engine) = without_look_ahead(source)? {
            return Ok(Pattern { engine });
        }
        let regex = RegexBuilder::new(source)
            .backtrack_limit(1_000_000)
            .delegate_size_limit(MOST_COMPILED)
            .delegate_dfa_size_limit(MOST_CACHE)
            .build()
            .map_err(wrong)?;
        Ok(Pattern { engine: Engine::Fancy(regex) })
    }

    /// A pattern that matches this text.
    pub(super) fn literal(text: &str) -> Result<Self> {
        Self::new(&fancy_regex::escape(text))
    }

    /// All matches in order. Empty matches are left out: nothing can be cut at them.
    pub(super) fn matches(&self, text: &str) -> Result<Vec<Range<usize>>> {
        const WHAT: &str = "a regex of the tokenizer";
        let clock = Clock::for_text(text.len());
        let mut out = Vec::new();
        match &self.engine {
            Engine::Fancy(regex) => {
                for (i, found) in regex.find_iter(text).enumerate() {
                    let found = found.map_err(|_| TextError::TooExpensive(WHAT))?;
                    if !found.range().is_empty() {
                        out.push(found.range());
                    }
                    if i % 64 == 0 {
                        clock.check(WHAT)?;
                    }
                }
            }
            Engine::Blanks(regex) => {
                let mut at = 0;
                while let Some(found) = regex.search(&Input::new(text).span(at..text.len())) {
                    let mut range = found.range();
                    if found.pattern() == PatternID::must(1) && range.end < text.len() {
                        let last =
                            text[range.clone()].chars().next_back().map_or(0, char::len_utf8);
                        // A single blank in front of a word stays whole.
                        if range.len() > last {
                            range.end -= last;
                        }
                    }
                    at = range.end;
                    if range.is_empty() {
                        at += text[at..].chars().next().map_or(1, char::len_utf8);
                        if at > text.len() {
                            break;
                        }
                    } else {
                        out.push(range);
                    }
                    if out.len() % 64 == 0 {
                        clock.check(WHAT)?;
                    }
                }
            }
        }
        Ok(out)
    }
}

/// Bytes of a compiled pattern, and of what its automaton may cache.
const MOST_COMPILED: usize = 16 << 20;
const MOST_CACHE: usize = 4 << 20;

/// The engine for a pattern whose only look-around is in its [`BLANKS`].
fn without_look_ahead(source: &str) -> Result<Option<Engine>> {
    let Some(head) = source.strip_suffix(BLANKS) else { return Ok(None) };
    let Ok(tree) = Expr::parse_tree(head) else { return Ok(None) };
    let mut form = Form::default();
    form.visit(&tree.expr, 0, 1)?;
    if form.looks {
        return Ok(None);
    }
    let config = meta::Config::new()
        .nfa_size_limit(Some(MOST_COMPILED))
        .onepass_size_limit(Some(MOST_CACHE))
        .hybrid_cache_capacity(MOST_CACHE);
    // What only the other engine's syntax knows goes to the other engine.
    let built = meta::Builder::new().configure(config).build_many(&[head, r"\s+"]);
    Ok(built.ok().map(|regex| Engine::Blanks(Box::new(regex))))
}

/// A deadline that grows with the text.
pub(super) struct Clock {
    end: Instant,
}

impl Clock {
    /// Some twenty times what the published patterns need.
    pub(super) fn for_text(bytes: usize) -> Self {
        let budget = Duration::from_millis(500) + Duration::from_micros(2) * bytes as u32;
        Clock { end: Instant::now() + budget }
    }

    pub(super) fn check(&self, what: &'static str) -> Result<()> {
        if Instant::now() > self.end { Err(TextError::TooExpensive(what)) } else { Ok(()) }
    }
}

/// Refuses deep parentheses before a parser that recurses sees them.
fn nesting(source: &str) -> Result<()> {
    const DEEPEST: usize = 32;
    let mut depth = 0usize;
    let mut escaped = false;
    for byte in source.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            // Inside a class this counts too much, which is harmless.
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        limit("the nesting of a regular expression", depth, DEEPEST)?;
    }
    // A chain of quantifiers is parsed without recursion but compiled with it.
    let quantifiers = |b: &u8| matches!(b, b'*' | b'+' | b'?' | b'}');
    let mut run = 0;
    for byte in source.bytes() {
        run = if quantifiers(&byte) || byte.is_ascii_digit() || matches!(byte, b'{' | b',') {
            run + usize::from(quantifiers(&byte))
        } else {
            0
        };
        limit("a chain of quantifiers in a regular expression", run, 8)?;
    }
    Ok(())
}

/// What a pattern is made of.
#[derive(Default)]
struct Form {
    looks: bool,
    nested: bool,
}

impl Form {
    /// `repeats` is how many unbounded repetitions are around this part, `copies` how often the
    /// bounded ones around it multiply it.
    fn visit(&mut self, expr: &Expr, repeats: usize, copies: usize) -> Result<()> {
        match expr {
            Expr::Empty | Expr::Any { .. } | Expr::Assertion(_) | Expr::Literal { .. } => {}
            Expr::Delegate { .. } => {}
            Expr::Concat(parts) | Expr::Alt(parts) => {
                for part in parts {
                    self.visit(part, repeats, copies)?;
                }
            }
            Expr::Group(inner) => self.visit(inner, repeats, copies)?,
            Expr::AtomicGroup(inner) => {
                self.looks = true;
                self.visit(inner, repeats, copies)?;
            }
            Expr::LookAround(inner, look) => {
                self.looks = true;
                // A look ahead is tried anew at each place, but does not multiply what is around it.
                // A look behind must be of bounded length.
                let behind = matches!(look, LookAround::LookBehind | LookAround::LookBehindNeg);
                self.visit(inner, usize::from(behind), copies)?;
            }
            Expr::Repeat { child, lo, hi, .. } => {
                const MOST_COPIES: usize = 10_000;
                let most = if *hi == usize::MAX { *lo } else { *hi };
                let copies = copies.saturating_mul(most.max(1));
                limit("a repetition in a regular expression", copies, MOST_COPIES)?;
                let unbounded = *hi > 256;
                if unbounded && repeats > 0 {
                    self.nested = true;
                }
                self.visit(child, repeats + usize::from(unbounded), copies)?;
            }
            _ => {
                return Err(TextError::unsupported(
                    FILE,
                    "a regex with back-references, conditions or recursion",
                ));
            }
        }
        Ok(())
    }
}

/// What becomes of the matches of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behavior {
    Removed,
    Isolated,
    MergedWithPrevious,
    MergedWithNext,
    Contiguous,
}

impl Behavior {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "Removed" => Behavior::Removed,
            "Isolated" => Behavior::Isolated,
            "MergedWithPrevious" => Behavior::MergedWithPrevious,
            "MergedWithNext" => Behavior::MergedWithNext,
            "Contiguous" => Behavior::Contiguous,
            _ => return None,
        })
    }

    /// Cuts `0..len` at the matches. With `invert` the gaps are the matches.
    pub(super) fn cut(
        self,
        len: usize,
        matches: &[Range<usize>],
        invert: bool,
    ) -> Vec<Range<usize>> {
        let mut parts: Vec<(Range<usize>, bool)> = Vec::with_capacity(matches.len() * 2 + 1);
        let mut done = 0;
        for found in matches {
            if done < found.start {
                parts.push((done..found.start, invert));
            }
            parts.push((found.clone(), !invert));
            done = found.end;
        }
        if done < len {
            parts.push((done..len, invert));
        }
        let mut out: Vec<Range<usize>> = Vec::with_capacity(parts.len());
        match self {
            Behavior::Isolated => out.extend(parts.into_iter().map(|(range, _)| range)),
            Behavior::Removed => {
                out.extend(parts.into_iter().filter(|(_, hit)| !hit).map(|(range, _)| range));
            }
            Behavior::Contiguous => {
                let mut before = None;
                for (range, hit) in parts {
                    match out.last_mut() {
                        Some(last) if before == Some(hit) => last.end = range.end,
                        _ => out.push(range),
                    }
                    before = Some(hit);
                }
            }
            Behavior::MergedWithPrevious => {
                let mut before = false;
                for (range, hit) in parts {
                    match out.last_mut() {
                        Some(last) if hit && !before => last.end = range.end,
                        _ => out.push(range),
                    }
                    before = hit;
                }
            }
            Behavior::MergedWithNext => {
                let mut after = false;
                for (range, hit) in parts.into_iter().rev() {
                    match out.last_mut() {
                        Some(next) if hit && !after => next.start = range.start,
                        _ => out.push(range),
                    }
                    after = hit;
                }
                out.reverse();
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(pattern: &str, text: &str, behavior: Behavior, invert: bool) -> Vec<String> {
        let matches = Pattern::new(pattern).unwrap().matches(text).unwrap();
        let cuts = behavior.cut(text.len(), &matches, invert);
        cuts.into_iter().map(|range| text[range].to_owned()).collect()
    }

    #[test]
    fn the_published_patterns_are_accepted() {
        for pattern in [
            GPT2,
            // Llama 3
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            // GPT-4o
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            // DeepSeek 3
            "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
            // digits in groups from the right
            r"\p{N}{1,3}(?=(?:\p{N}{3})*(?:\P{N}|$))|\s+",
            // BLOOM
            r" ?[^(\s|[.,!?…。，、।۔،])]+",
        ] {
            assert!(Pattern::new(pattern).is_ok(), "{pattern}");
        }
    }

    #[test]
    fn behaviors_cut_like_the_reference() {
        use Behavior::*;
        let text = "the-final--countdown";
        let run = |behavior| split("-", text, behavior, false);
        assert_eq!(run(Removed), ["the", "final", "countdown"]);
        assert_eq!(run(Isolated), ["the", "-", "final", "-", "-", "countdown"]);
        assert_eq!(run(MergedWithPrevious), ["the-", "final-", "-", "countdown"]);
        assert_eq!(run(MergedWithNext), ["the", "-final", "-", "-countdown"]);
        assert_eq!(run(Contiguous), ["the", "-", "final", "--", "countdown"]);
        assert_eq!(split(r"\w+", "a b", Removed, true), ["a", "b"]);
    }

    #[test]
    fn hostile_patterns_are_refused_or_run_in_time() {
        let deep = format!("{}a{}", "(".repeat(5000), ")".repeat(5000));
        let long = "a".repeat(1 << 20);
        for bad in [
            "(",
            "[",
            "*a",
            "(?<=a*)b",
            r"(a)\1",
            r"(?<x>a)\k<x>",
            &deep,
            &long,
            "((a{1000}){1000}){1000}",
            "(a+)+(?!b)",
        ] {
            let start = Instant::now();
            assert!(Pattern::new(bad).is_err(), "{}", super::super::error::clip(bad));
            assert!(start.elapsed().as_millis() < 500);
        }
        let text = format!("{}!", "a".repeat(200_000));
        for bad in ["(a+)+$", "(a|a)*b", "(.*)*x", "a*b|a", r"(?:a?){20}a{20}(?!a)", r"a(?=.*b)"] {
            let start = Instant::now();
            let _ = Pattern::new(bad).and_then(|pattern| pattern.matches(&text));
            assert!(start.elapsed().as_secs_f64() < 4.0, "{bad}: {:?}", start.elapsed());
        }
    }

    #[test]
    fn blanks_without_look_ahead_are_the_same() {
        let llama3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
        const UNITS: [&str; 12] =
            [" ", "  ", "\n", "\r\n", "\t", "a", "'s", "12", "é", "\u{3000}", "!", "\u{a0}"];
        let mut random = 5u64;
        for source in [GPT2, llama3] {
            let fast = Pattern::new(source).unwrap();
            assert!(matches!(fast.engine, Engine::Blanks(_)));
            let slow = Regex::new(source).unwrap();
            for length in 0..3000 {
                let mut text = String::new();
                for _ in 0..length % 13 {
                    random =
                        random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    text.push_str(UNITS[(random >> 33) as usize % UNITS.len()]);
                }
                let want: Vec<_> = slow.find_iter(&text).map(|m| m.unwrap().range()).collect();
                assert_eq!(fast.matches(&text).unwrap(), want, "{text:?}");
            }
            // More blanks than a backtracking engine has stack for.
            let blanks = " ".repeat(2_000_000) + "x";
            assert_eq!(fast.matches(&blanks).unwrap(), [0..1_999_999, 1_999_999..2_000_001]);
        }
    }

    #[test]
    fn empty_matches_cut_nothing() {
        assert_eq!(split("x*", "ab", Behavior::Isolated, false), ["ab"]);
    }
}
