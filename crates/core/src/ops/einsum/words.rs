//! Reading the subscripts of a sum of products.

use crate::error::{Error, ErrorKind, Result};
use crate::node::Array;
use crate::ops::error;
use std::collections::BTreeMap;

/// The name of an axis: a letter, or a place among the axes that an ellipsis stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Label {
    /// Counted from the last.
    Ellipsis(usize),
    Letter(char),
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Label::Letter(letter) => write!(f, "{letter}"),
            Label::Ellipsis(i) => write!(f, "the ellipsis' axis {}", -1 - *i as i64),
        }
    }
}

/// Labels of all operands and of the result, and the lengths of their axes.
pub(super) struct Equation {
    /// The subscripts with the result's written out, for messages.
    pub(super) text: String,
    pub(super) inputs: Vec<Vec<Label>>,
    pub(super) output: Vec<Label>,
    pub(super) sizes: BTreeMap<Label, usize>,
}

/// One operand's subscripts: letters, and where the ellipsis stands among them.
struct Subscript {
    letters: Vec<char>,
    ellipsis: Option<usize>,
}

impl Subscript {
    fn parse(text: &str) -> Option<Subscript> {
        let mut out = Subscript { letters: Vec::new(), ellipsis: None };
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if let Some(after) = rest.strip_prefix("...") {
                if out.ellipsis.replace(out.letters.len()).is_some() {
                    return None;
                }
                rest = after;
            } else if c.is_ascii_alphabetic() {
                out.letters.push(c);
                rest = &rest[1..];
            } else {
                return None;
            }
        }
        Some(out)
    }

    /// The labels of an operand, of which the ellipsis takes `hidden` axes.
    fn labels(&self, hidden: usize) -> Vec<Label> {
        let mut out: Vec<Label> = self.letters.iter().map(|&c| Label::Letter(c)).collect();
        if let Some(at) = self.ellipsis {
            out.splice(at..at, (0..hidden).rev().map(Label::Ellipsis));
        }
        out
    }
}

impl Equation {
    pub(super) fn parse(
        op: &'static str,
        subscripts: &str,
        operands: &[Array],
    ) -> Result<Equation> {
        let text: String = subscripts.chars().filter(|c| !c.is_whitespace()).collect();
        let bad = |why: String| {
            let why = format!("{why} in \"{text}\"");
            let all: Vec<&Array> = operands.iter().collect();
            error(ErrorKind::Value, op, why, &all)
        };
        let (left, right) = match text.split_once("->") {
            Some((left, right)) => (left, Some(right)),
            None => (&text[..], None),
        };
        let parse = |part: &str| {
            Subscript::parse(part)
                .ok_or_else(|| bad(format!("\"{part}\" is not letters and at most one ellipsis")))
        };
        let parts = left.split(',').map(parse).collect::<Result<Vec<_>>>()?;
        if operands.is_empty() || parts.len() != operands.len() {
            return Err(Error::new(
                ErrorKind::Value,
                op,
                format!("{} subscripts for {} operands", parts.len(), operands.len()),
            ));
        }
        let mut inputs = Vec::with_capacity(parts.len());
        let mut hidden_most = 0;
        for (part, x) in parts.iter().zip(operands) {
            let rank = x.0.shape.len();
            let hidden = rank.checked_sub(part.letters.len());
            let hidden = hidden.filter(|&h| h == 0 || part.ellipsis.is_some());
            let Some(hidden) = hidden else {
                let letters: String = part.letters.iter().collect();
                return Err(bad(format!("\"{letters}\" does not name {rank} axes")));
            };
            hidden_most = hidden_most.max(hidden);
            inputs.push(part.labels(hidden));
        }
        let mut sizes = BTreeMap::new();
        for (labels, x) in inputs.iter().zip(operands) {
            for (i, (label, &d)) in labels.iter().zip(x.0.shape.iter()).enumerate() {
                let twice = labels[..i].iter().position(|l| l == label);
                if twice.is_some_and(|j| x.0.shape[j] != d) {
                    return Err(bad("a diagonal of axes of different lengths".to_string()));
                }
                let known = sizes.entry(*label).or_insert(d);
                if *known == 1 {
                    *known = d;
                } else if d != 1 && *known != d {
                    return Err(bad(format!("{label} has lengths {known} and {d}")));
                }
            }
        }
        let output = match right {
            Some(right) => {
                let part = parse(right)?;
                if part.ellipsis.is_none() && hidden_most > 0 {
                    return Err(bad("the result lacks the operands' ellipsis".to_string()));
                }
                part.labels(hidden_most)
            }
            None => {
                let count = |l: &Label| inputs.iter().flatten().filter(|m| *m == l).count();
                let ellipsis = (0..hidden_most).rev().map(Label::Ellipsis);
                let letters = sizes.keys().filter(|l| matches!(l, Label::Letter(_)));
                ellipsis.chain(letters.filter(|l| count(l) == 1).copied()).collect()
            }
        };
        for (i, label) in output.iter().enumerate() {
            if output[..i].contains(label) {
                return Err(bad(format!("the result has {label} twice")));
            }
            if !sizes.contains_key(label) {
                return Err(bad(format!("no operand has the result's {label}")));
            }
        }
        let text = match right {
            Some(_) => text,
            None => {
                let letters = output.iter().filter_map(|l| match l {
                    Label::Letter(c) => Some(*c),
                    Label::Ellipsis(_) => None,
                });
                let dots = if hidden_most > 0 { "..." } else { "" };
                format!("{text}->{dots}{}", letters.collect::<String>())
            }
        };
        Ok(Equation { text, inputs, output, sizes })
    }
}
