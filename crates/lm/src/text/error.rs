//! What can go wrong with a model's text files and with the text itself.
//!
//! Every message is short and printable: names and excerpts that come from a file or a request pass
//! through [`clip`], which escapes control characters and cuts, so that a hostile file can neither
//! flood nor forge a log.

use std::fmt;

/// Why a tokenizer, a chat template or a text was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// A file does not say what its format requires.
    #[error("{file}: {at}: {reason}")]
    Malformed {
        /// The file, as the model folder names it.
        file: &'static str,
        /// Where: a JSON path or a byte offset.
        at: String,
        /// What is wrong there.
        reason: String,
    },
    /// A file is well formed, and asks for something that is not implemented.
    #[error("{file}: {what} is not supported")]
    Unsupported {
        /// The file.
        file: &'static str,
        /// The feature asked for.
        what: String,
    },
    /// A size is past its limit.
    #[error("{what} is too large: {size}, the limit is {limit}")]
    TooLarge {
        /// What was measured.
        what: &'static str,
        /// Its size.
        size: u64,
        /// The most that is taken.
        limit: u64,
    },
    /// The work for one input went past its budget.
    #[error("{0} takes more work than its budget allows")]
    TooExpensive(&'static str),
    /// The chat template is not valid Jinja.
    #[error("chat template, line {line}: {reason}")]
    Syntax {
        /// Line of the template, from 1.
        line: u32,
        /// What is wrong.
        reason: String,
    },
    /// The chat template failed while rendering.
    #[error("chat template, line {line}: {reason}")]
    Render {
        /// Line of the template, from 1.
        line: u32,
        /// What failed.
        reason: String,
    },
    /// The template called `raise_exception`: the conversation does not fit the model.
    #[error("the chat template refuses this conversation: {0}")]
    Refused(String),
    /// The model has no chat template.
    #[error("this model has no chat template")]
    NoTemplate,
    /// An argument of the caller is not acceptable.
    #[error("{0}")]
    Invalid(String),
    /// The tokenizer library failed where it should not have.
    #[error("internal tokenizer failure: {0}")]
    Internal(String),
}

impl TextError {
    pub(crate) fn malformed(
        file: &'static str,
        at: impl fmt::Display,
        reason: impl fmt::Display,
    ) -> Self {
        TextError::Malformed { file, at: clip(&at.to_string()), reason: clip(&reason.to_string()) }
    }

    pub(crate) fn unsupported(file: &'static str, what: impl fmt::Display) -> Self {
        TextError::Unsupported { file, what: clip(&what.to_string()) }
    }
}

/// The result of everything in this module.
pub type Result<T, E = TextError> = std::result::Result<T, E>;

/// Checks a size against its limit.
pub(crate) fn limit(what: &'static str, size: usize, limit: usize) -> Result<()> {
    if size > limit {
        return Err(TextError::TooLarge { what, size: size as u64, limit: limit as u64 });
    }
    Ok(())
}

/// The text with its control characters escaped, cut at about 300 bytes.
pub(crate) fn clip(text: &str) -> String {
    const MOST: usize = 300;
    let mut out = String::with_capacity(text.len().min(MOST + 4));
    for c in text.chars() {
        if out.len() >= MOST {
            out.push('…');
            break;
        }
        // Line breaks and direction marks would let a file's text pose as a log line of ours.
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}') {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_short_and_printable() {
        let text = clip(&"a\n\u{1b}[31m\u{202e}".repeat(1 << 20));
        assert!(text.len() < 400 && !text.contains('\n') && !text.contains('\u{1b}'));
        assert!(text.ends_with('…'));
    }
}
