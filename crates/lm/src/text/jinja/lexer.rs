//! Jinja's lexer: template text to tokens, with the whitespace rules of `trim_blocks` and
//! `lstrip_blocks`, which every chat template is written for.

use std::sync::Arc;

use super::Fault;

/// A token and the line it is on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) line: u32,
    pub(super) kind: Tok,
}

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tok {
    Data(Arc<str>),
    VariableBegin,
    VariableEnd,
    BlockBegin,
    BlockEnd,
    Name(Arc<str>),
    Str(Arc<str>),
    Int(i128),
    Float(f64),
    Op(&'static str),
    End,
}

/// Operators, longest first.
const OPERATORS: [&str; 27] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}",
    ">", "<", "=", ".", ":", "|", ",", ";", "!",
];

/// The most tokens of a template; a token is 48 bytes, and the longest template has some 10,000.
const MOST_TOKENS: usize = 1 << 16;

pub(super) fn tokenize(source: &str) -> Result<Vec<Token>, Fault> {
    let mut source = source.replace("\r\n", "\n").replace('\r', "\n");
    if source.ends_with('\n') {
        source.pop();
    }
    let mut lexer = Lexer { source: &source, at: 0, line: 1, line_start: true, out: Vec::new() };
    lexer.root()?;
    let line = lexer.line;
    lexer.out.push(Token { line, kind: Tok::End });
    Ok(lexer.out)
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    line: u32,
    /// Whether what was read last ended a line.
    line_start: bool,
    out: Vec<Token>,
}

impl<'a> Lexer<'a> {
    fn fault(&self, reason: impl Into<String>) -> Fault {
        Fault::syntax(self.line, reason)
    }

    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn push(&mut self, kind: Tok) {
        self.out.push(Token { line: self.line, kind });
    }

    fn advance(&mut self, len: usize) {
        let passed = &self.source.as_bytes()[self.at..self.at + len];
        self.line += passed.iter().filter(|&&b| b == b'\n').count() as u32;
        if let Some(last) = passed.last() {
            self.line_start = *last == b'\n';
        }
        self.at += len;
    }

    /// Text outside tags, up to the end of the template.
    fn root(&mut self) -> Result<(), Fault> {
        while self.at < self.source.len() {
            let rest = self.rest();
            let Some((offset, kind)) = next_tag(rest) else {
                self.push(Tok::Data(rest.into()));
                self.advance(rest.len());
                break;
            };
            let after = &rest[offset + 2..];
            let sign = after.bytes().next().filter(|b| matches!(b, b'-' | b'+'));
            self.text(&rest[..offset], sign, kind == b'{');
            self.advance(offset + 2 + usize::from(sign.is_some()));
            match kind {
                b'#' => self.comment()?,
                b'%' => {
                    if !self.raw()? {
                        self.push(Tok::BlockBegin);
                        self.tag(b'%')?;
                    }
                }
                _ => {
                    self.push(Tok::VariableBegin);
                    self.tag(b'{')?;
                }
            }
        }
        Ok(())
    }

    /// Emits text in front of a tag, stripped as the tag asks.
    fn text(&mut self, text: &str, sign: Option<u8>, variable: bool) {
        let mut kept = text;
        if sign == Some(b'-') {
            kept = text.trim_end();
        } else if sign != Some(b'+') && !variable {
            let start = text.rfind('\n').map_or(0, |i| i + 1);
            let blank = !text[start..].is_empty() && text[start..].trim_end().is_empty();
            if blank && (start > 0 || self.line_start) {
                kept = &text[..start];
            }
        }
        if !kept.is_empty() {
            self.push(Tok::Data(kept.into()));
        }
    }

    /// Passes the end of a tag and the whitespace that goes with it.
    fn close(&mut self, end: &str, trim: bool) -> bool {
        let rest = self.rest();
        if let Some(after) = rest.strip_prefix('-').and_then(|r| r.strip_prefix(end)) {
            let blank = after.len() - after.trim_start().len();
            self.advance(1 + end.len() + blank);
        } else if trim && rest.strip_prefix('+').is_some_and(|r| r.starts_with(end)) {
            self.advance(1 + end.len());
        } else if let Some(after) = rest.strip_prefix(end) {
            self.advance(end.len() + usize::from(trim && after.starts_with('\n')));
        } else {
            return false;
        }
        true
    }

    fn comment(&mut self) -> Result<(), Fault> {
        let rest = self.rest();
        let end = rest.find("#}").ok_or_else(|| self.fault("missing end of comment tag"))?;
        let sign = rest[..end].ends_with(['-', '+']);
        self.advance(end - usize::from(sign));
        self.close("#}", true);
        Ok(())
    }

    /// Reads a raw block, if that is what begins here.
    fn raw(&mut self) -> Result<bool, Fault> {
        let rest = self.rest();
        let Some(after) = rest.trim_start().strip_prefix("raw") else { return Ok(false) };
        let after = after.trim_start();
        let (len, eats) = match (after.strip_prefix("-%}"), after.strip_prefix("%}")) {
            (Some(body), _) => (rest.len() - body.trim_start().len(), true),
            (None, Some(body)) => (rest.len() - body.len(), false),
            (None, None) => return Ok(false),
        };
        self.advance(len);
        self.line_start &= eats;
        // Find the end tag: `{%`, a sign, `endraw`, an end.
        let body = self.rest();
        let mut from = 0;
        while let Some(found) = body[from..].find("{%") {
            let open = from + found;
            let inner = &body[open + 2..];
            let sign = inner.bytes().next().filter(|b| matches!(b, b'-' | b'+'));
            let name = inner[usize::from(sign.is_some())..].trim_start();
            if let Some(tail) = name.strip_prefix("endraw") {
                let tail = tail.trim_start();
                if tail.starts_with("%}") || tail.starts_with("-%}") || tail.starts_with("+%}") {
                    self.text(&body[..open], sign, false);
                    self.advance(body.len() - tail.len());
                    self.close("%}", true);
                    return Ok(true);
                }
            }
            from = open + 2;
        }
        Err(self.fault("missing end of raw directive"))
    }

    /// The inside of `{{ }}` or `{% %}`.
    fn tag(&mut self, kind: u8) -> Result<(), Fault> {
        let (end, trim) = if kind == b'%' { ("%}", true) } else { ("}}", false) };
        let mut open: Vec<u8> = Vec::new();
        loop {
            let rest = self.rest();
            let Some(first) = rest.chars().next() else {
                return Err(self.fault("unexpected end of template"));
            };
            if self.out.len() > MOST_TOKENS {
                return Err(self.fault("the template is too long"));
            }
            if open.is_empty() && self.close(end, trim) {
                self.push(if kind == b'%' { Tok::BlockEnd } else { Tok::VariableEnd });
                return Ok(());
            }
            if first.is_whitespace() {
                self.advance(first.len_utf8());
            } else if first.is_ascii_digit() {
                self.number()?;
            } else if first == '_' || first.is_alphabetic() {
                let len =
                    rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len());
                self.push(Tok::Name(rest[..len].into()));
                self.advance(len);
            } else if first == '"' || first == '\'' {
                self.string(first)?;
            } else {
                let op = OPERATORS.into_iter().find(|op| rest.starts_with(op));
                let op = op.ok_or_else(|| self.fault(format!("unexpected character {first:?}")))?;
                match op {
                    "(" | "[" | "{" => open.push(op.as_bytes()[0]),
                    ")" | "]" | "}" => {
                        let want = match op {
                            ")" => b'(',
                            "]" => b'[',
                            _ => b'{',
                        };
                        if open.pop() != Some(want) {
                            return Err(self.fault(format!("unexpected '{op}'")));
                        }
                    }
                    _ => {}
                }
                self.push(Tok::Op(op));
                self.advance(op.len());
            }
        }
    }

    fn number(&mut self) -> Result<(), Fault> {
        let rest = self.rest();
        let digits =
            |text: &str| text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
        let bytes = rest.as_bytes();
        let radix = match (bytes[0], bytes.get(1).map(u8::to_ascii_lowercase)) {
            (b'0', Some(b'x')) => 16,
            (b'0', Some(b'o')) => 8,
            (b'0', Some(b'b')) => 2,
            _ => 10,
        };
        if radix != 10 {
            let body = &rest[2..];
            let len = body.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let len = len.unwrap_or(body.len());
            let value = i128::from_str_radix(&body[..len].replace('_', ""), radix)
                .map_err(|_| self.fault("not a number"))?;
            self.push(Tok::Int(value));
            self.advance(2 + len);
            return Ok(());
        }
        let mut len = digits(rest);
        let mut float = false;
        if let Some(fraction) = rest[len..].strip_prefix('.')
            && fraction.starts_with(|c: char| c.is_ascii_digit())
        {
            len += 1 + digits(fraction);
            float = true;
        }
        if rest[len..].starts_with(['e', 'E']) {
            let exponent = &rest[len + 1..];
            let sign = usize::from(exponent.starts_with(['+', '-']));
            let size = digits(&exponent[sign..]);
            if size > 0 && exponent[sign..].starts_with(|c: char| c.is_ascii_digit()) {
                len += 1 + sign + size;
                float = true;
            }
        }
        let text = rest[..len].replace('_', "");
        let kind = if float {
            Tok::Float(text.parse().map_err(|_| self.fault("not a number"))?)
        } else {
            Tok::Int(text.parse().map_err(|_| self.fault("a number is too large"))?)
        };
        self.push(kind);
        self.advance(len);
        Ok(())
    }

    fn string(&mut self, quote: char) -> Result<(), Fault> {
        let rest = self.rest();
        let mut escaped = false;
        let mut end = None;
        for (i, c) in rest.char_indices().skip(1) {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                c if c == quote => {
                    end = Some(i);
                    break;
                }
                _ => {}
            }
        }
        let end = end.ok_or_else(|| self.fault("a string has no end"))?;
        let text = unescape(&rest[1..end]).ok_or_else(|| self.fault("bad escape in a string"))?;
        self.push(Tok::Str(text.into()));
        self.advance(end + 1);
        Ok(())
    }
}

/// The next `{{`, `{%` or `{#`: its place and its second character.
fn next_tag(text: &str) -> Option<(usize, u8)> {
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(found) = text[from..].find('{') {
        let at = from + found;
        match bytes.get(at + 1) {
            Some(&kind @ (b'{' | b'%' | b'#')) => return Some((at, kind)),
            _ => from = at + 1,
        }
    }
    None
}

/// Python's string escapes.
fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let Some(escape) = chars.next() else {
            out.push('\\');
            break;
        };
        let hex = |chars: &mut std::str::Chars<'_>, n: usize| -> Option<char> {
            let digits = chars.as_str().get(..n)?;
            if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            *chars = chars.as_str()[n..].chars();
            char::from_u32(u32::from_str_radix(digits, 16).ok()?)
        };
        match escape {
            '\n' => {}
            '\\' | '\'' | '"' => out.push(escape),
            'a' => out.push('\u{7}'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'v' => out.push('\u{b}'),
            'x' => out.push(hex(&mut chars, 2)?),
            'u' => out.push(hex(&mut chars, 4)?),
            'U' => out.push(hex(&mut chars, 8)?),
            'N' => return None,
            '0'..='7' => {
                let mut code = u32::from(escape) - u32::from('0');
                for _ in 0..2 {
                    let Some(digit) = chars.as_str().chars().next().and_then(|c| c.to_digit(8))
                    else {
                        break;
                    };
                    chars.next();
                    code = code * 8 + digit;
                }
                out.push(char::from_u32(code)?);
            }
            other => {
                out.push('\\');
                out.push(other);
            }
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(source: &str) -> String {
        let tokens = tokenize(source).unwrap();
        let text = tokens.iter().filter_map(|token| match &token.kind {
            Tok::Data(text) => Some(text.to_string()),
            Tok::BlockBegin => Some("%".into()),
            Tok::VariableBegin => Some("$".into()),
            _ => None,
        });
        text.collect()
    }

    #[test]
    fn whitespace_follows_jinja() {
        assert_eq!(data("a\n  {% if x %}\n  b\n  {% endif %}\nc\n"), "a\n%  b\n%c");
        assert_eq!(data("a {%- if x -%} \n b {{- x -}} c"), "a%b$c");
        assert_eq!(data("  {%+ if x +%}\nb"), "  %\nb");
        assert_eq!(data("  {{ x }}\nb"), "  $\nb");
        assert_eq!(data("a\n  {# note #}\nb"), "a\nb");
        assert_eq!(data("x{% raw %}{{ y }}{% endraw %}z"), "x{{ y }}z");
        assert_eq!(data("a\r\nb\r"), "a\nb");
    }

    #[test]
    fn strings_and_numbers() {
        let source = r#"{{ "a\n\x41\u00e9\q" 'it''s' 1_000 1.5e3 0x1f }}"#;
        let kinds: Vec<Tok> = tokenize(source).unwrap().into_iter().map(|t| t.kind).collect();
        assert_eq!(kinds[1], Tok::Str("a\nAé\\q".into()));
        assert_eq!(kinds[4], Tok::Int(1000));
        assert_eq!(kinds[5], Tok::Float(1500.0));
        assert_eq!(kinds[6], Tok::Int(31));
        for bad in
            ["{{", "{% if", "{# x", "{{ 'a }}", "{{ ) }}", "{{ \"\\x4\" }}", "{{ ` }}", "{% raw %}"]
        {
            assert!(tokenize(bad).is_err(), "{bad}");
        }
    }
}
