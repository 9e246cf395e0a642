//! Knowing when a generation is over: end tokens and stop strings.
//!
//! A stop string need not align with tokens, so [`StopChecker`] sits behind the detokenizer and works
//! on text: it passes text on as soon as no stop string can begin in it, and holds back only the
//! longest tail that could still turn into one. Each stop string is followed by a Knuth-Morris-Pratt
//! automaton, so the work per byte is constant per string whatever the text looks like.

use super::error::{Result, TextError, limit};

/// Why a generation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop {
    /// The model said so with this token.
    Token(u32),
    /// The text reached this stop string, which is not part of the output.
    Text(String),
}

/// The end tokens and stop strings of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StopRules {
    tokens: Vec<u32>,
    strings: Vec<String>,
}

/// The most stop strings a request may have.
const MOST_STRINGS: usize = 64;
/// The longest stop string.
const MOST_BYTES: usize = 4096;

impl StopRules {
    /// Rules from end tokens and stop strings.
    ///
    /// # Errors
    /// If a stop string is empty or past 4 KiB, or there are more than 64 of them.
    pub fn new(
        tokens: impl IntoIterator<Item = u32>,
        strings: impl IntoIterator<Item = String>,
    ) -> Result<Self> {
        let mut tokens: Vec<u32> = tokens.into_iter().collect();
        tokens.sort_unstable();
        tokens.dedup();
        let mut kept: Vec<String> = Vec::new();
        for string in strings {
            if string.is_empty() {
                return Err(TextError::Invalid("a stop string is empty".into()));
            }
            limit("a stop string", string.len(), MOST_BYTES)?;
            if !kept.contains(&string) {
                kept.push(string);
            }
            limit("the number of stop strings", kept.len(), MOST_STRINGS)?;
        }
        Ok(StopRules { tokens, strings: kept })
    }

    /// The end tokens, in order.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Whether this token ends a generation.
    pub fn is_end(&self, id: u32) -> bool {
        self.tokens.binary_search(&id).is_ok()
    }

    /// A checker for one generation.
    pub fn checker(&self) -> StopChecker {
        StopChecker {
            rules: self.strings.iter().map(|s| Matcher::new(s)).collect(),
            held: String::new(),
            stopped: false,
        }
    }
}

/// Follows the text of one generation.
///
/// ```
/// use lazul_lm::text::StopRules;
///
/// let rules = StopRules::new([2], ["\nUser:".to_string()])?;
/// let mut checker = rules.checker();
/// assert_eq!(checker.push("fine"), ("fine".to_string(), None));
/// assert_eq!(checker.push("\nUs"), (String::new(), None)); // could still become a stop string
/// let (text, stop) = checker.push("er: hi");
/// assert_eq!(text, "");
/// assert!(stop.is_some());
/// # Ok::<(), lazul_lm::text::TextError>(())
/// ```
#[derive(Debug, Clone)]
pub struct StopChecker {
    rules: Vec<Matcher>,
    held: String,
    stopped: bool,
}

impl StopChecker {
    /// Adds text; returns the text that may be shown now, and the stop that was reached.
    ///
    /// After a stop every further call returns nothing.
    pub fn push(&mut self, text: &str) -> (String, Option<Stop>) {
        if self.stopped {
            return (String::new(), None);
        }
        if self.rules.is_empty() {
            return (text.to_owned(), None);
        }
        let before = self.held.len();
        self.held.push_str(text);
        for (i, &byte) in text.as_bytes().iter().enumerate() {
            // Of two strings that end at the same byte the longer one began first.
            let mut longest = 0;
            for rule in &mut self.rules {
                if rule.step(byte) {
                    longest = longest.max(rule.pattern.len());
                }
            }
            if longest > 0 {
                let end = before + i + 1;
                let matched = self.held[end - longest..end].to_owned();
                self.held.truncate(end - longest);
                self.stopped = true;
                return (std::mem::take(&mut self.held), Some(Stop::Text(matched)));
            }
        }
        let keep = self.rules.iter().map(|rule| rule.state).max().unwrap_or(0);
        // A kept tail is a prefix of a stop string, so it begins on a character boundary.
        let tail = self.held.split_off(self.held.len() - keep);
        (std::mem::replace(&mut self.held, tail), None)
    }

    /// Ends the text without a stop: returns what was held back.
    pub fn finish(&mut self) -> String {
        self.stopped = true;
        std::mem::take(&mut self.held)
    }

    /// Whether a stop string was reached or the text was ended.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }
}

/// A Knuth-Morris-Pratt automaton.
#[derive(Debug, Clone)]
struct Matcher {
    pattern: Box<[u8]>,
    /// For each length: the longest proper prefix that is also a suffix.
    failure: Box<[u32]>,
    state: usize,
}

impl Matcher {
    fn new(pattern: &str) -> Self {
        let pattern = pattern.as_bytes();
        let mut failure = vec![0u32; pattern.len() + 1];
        let mut k = 0;
        for i in 1..pattern.len() {
            while k > 0 && pattern[k] != pattern[i] {
                k = failure[k] as usize;
            }
            if pattern[k] == pattern[i] {
                k += 1;
            }
            failure[i + 1] = k as u32;
        }
        Matcher { pattern: pattern.into(), failure: failure.into(), state: 0 }
    }

    fn step(&mut self, byte: u8) -> bool {
        if self.state == self.pattern.len() {
            self.state = self.failure[self.state] as usize;
        }
        while self.state > 0 && self.pattern[self.state] != byte {
            self.state = self.failure[self.state] as usize;
        }
        if self.pattern[self.state] == byte {
            self.state += 1;
        }
        self.state == self.pattern.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(strings: &[&str]) -> StopRules {
        StopRules::new([], strings.iter().map(|s| s.to_string())).unwrap()
    }

    fn run(rules: &StopRules, pieces: &[&str]) -> (String, Option<Stop>) {
        let mut checker = rules.checker();
        let mut all = String::new();
        for piece in pieces {
            let (text, stop) = checker.push(piece);
            all.push_str(&text);
            if stop.is_some() {
                return (all, stop);
            }
        }
        all.push_str(&checker.finish());
        (all, None)
    }

    #[test]
    fn every_split_of_a_text_stops_at_the_same_place() {
        let rules = rules(&["</s>", "\n\nUser", "é!", "aab"]);
        for (text, want) in [
            ("hello</s>rest", "hello"),
            ("hello\n\nUse\n\nUser: x", "hello\n\nUse"),
            ("aaab", "a"),
            ("caf\u{e9}\u{e9}! no", "caf\u{e9}"),
            ("no stop here </s", "no stop here </s"),
        ] {
            for cut in (0..=text.len()).filter(|&i| text.is_char_boundary(i)) {
                let (got, _) = run(&rules, &[&text[..cut], &text[cut..]]);
                assert_eq!(got, want, "{text:?} cut at {cut}");
            }
            let singles: Vec<String> = text.chars().map(String::from).collect();
            let singles: Vec<&str> = singles.iter().map(String::as_str).collect();
            assert_eq!(run(&rules, &singles).0, want);
        }
    }

    #[test]
    fn the_earliest_end_wins_and_then_the_longest() {
        let got = run(&rules(&["b", "abc"]), &["xabc"]);
        assert_eq!(got, ("xa".into(), Some(Stop::Text("b".into()))));
        let got = run(&rules(&["c", "abc"]), &["xabc"]);
        assert_eq!(got, ("x".into(), Some(Stop::Text("abc".into()))));
    }

    #[test]
    fn text_is_held_only_while_it_may_become_a_stop() {
        let mut checker = rules(&["STOP"]).checker();
        assert_eq!(checker.push("a ST").0, "a ");
        assert_eq!(checker.push("ILL").0, "STILL");
        assert_eq!(checker.push("S").0, "");
        assert_eq!(checker.finish(), "S");
        assert_eq!(checker.push("more").0, "");
    }

    #[test]
    fn a_long_run_of_near_misses_is_linear() {
        let stop = format!("{}b", "a".repeat(4000));
        let rules = StopRules::new([], [stop]).unwrap();
        let start = std::time::Instant::now();
        let text = "a".repeat(1_000_000);
        let (shown, stop) = rules.checker().push(&text);
        assert!(stop.is_none());
        assert_eq!(shown.len(), 1_000_000 - 4000);
        assert!(start.elapsed().as_secs_f64() < 2.0);
    }

    #[test]
    fn bad_rules_are_refused() {
        assert!(StopRules::new([], [String::new()]).is_err());
        assert!(StopRules::new([], ["x".repeat(5000)]).is_err());
        assert!(StopRules::new([], (0..100).map(|i| i.to_string())).is_err());
        let rules = StopRules::new([5, 3, 5], []).unwrap();
        assert_eq!(rules.tokens(), [3, 5]);
        assert!(rules.is_end(3) && !rules.is_end(4));
    }
}
