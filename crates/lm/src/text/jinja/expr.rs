//! The grammar of expressions, by precedence from `or` down to names and literals.

use super::ast::{Args, Binary, Compare, Expr, Filter};
use super::lexer::Tok;
use super::parser::{DEEPEST, Parsed, Parser};

impl Parser {
    /// One expression, or several with commas between.
    pub(super) fn tuple(&mut self, conditional: bool) -> Parsed<Expr> {
        let one = |parser: &mut Self| {
            if conditional { parser.expr() } else { parser.deeper(|parser| parser.or()) }
        };
        let first = one(self)?;
        if !self.is_op(",") {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.skip_op(",") {
            if self.ends_tuple() {
                break;
            }
            parts.push(one(self)?);
        }
        Ok(Expr::Tuple(parts))
    }

    pub(super) fn ends_tuple(&self) -> bool {
        matches!(self.peek(), Tok::VariableEnd | Tok::BlockEnd | Tok::End)
            || self.is_op(")")
            || self.is_name("recursive")
    }

    pub(super) fn expr(&mut self) -> Parsed<Expr> {
        self.deeper(|parser| {
            let mut expr = parser.or()?;
            let mut chain = 0;
            while parser.skip_name("if") {
                parser.long_chain(&mut chain)?;
                let test = parser.or()?;
                let otherwise = match parser.skip_name("else") {
                    true => Some(Box::new(parser.expr()?)),
                    false => None,
                };
                expr = Expr::Cond(Box::new(test), Box::new(expr), otherwise);
            }
            Ok(expr)
        })
    }

    /// Chains of operators nest to the left, and are walked by recursion.
    pub(super) fn long_chain(&self, length: &mut usize) -> Parsed<()> {
        *length += 1;
        if *length > DEEPEST {
            return Err(self.fault("an expression is too long"));
        }
        Ok(())
    }

    pub(super) fn or(&mut self) -> Parsed<Expr> {
        let mut left = self.and()?;
        let mut chain = 0;
        while self.skip_name("or") {
            self.long_chain(&mut chain)?;
            left = Expr::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    pub(super) fn and(&mut self) -> Parsed<Expr> {
        let mut left = self.not()?;
        let mut chain = 0;
        while self.skip_name("and") {
            self.long_chain(&mut chain)?;
            left = Expr::And(Box::new(left), Box::new(self.not()?));
        }
        Ok(left)
    }

    pub(super) fn not(&mut self) -> Parsed<Expr> {
        if self.skip_name("not") {
            return self.deeper(|parser| Ok(Expr::Not(Box::new(parser.not()?))));
        }
        let left = self.sum()?;
        let mut rest = Vec::new();
        loop {
            let op = match self.peek() {
                Tok::Op("==") => Compare::Eq,
                Tok::Op("!=") => Compare::Ne,
                Tok::Op("<") => Compare::Lt,
                Tok::Op("<=") => Compare::Le,
                Tok::Op(">") => Compare::Gt,
                Tok::Op(">=") => Compare::Ge,
                Tok::Name(name) if &**name == "in" => Compare::In,
                Tok::Name(name)
                    if &**name == "not"
                        && matches!(self.peek2(), Tok::Name(next) if &**next == "in") =>
                {
                    self.next();
                    Compare::NotIn
                }
                _ => break,
            };
            self.next();
            rest.push((op, self.sum()?));
        }
        Ok(if rest.is_empty() { left } else { Expr::Compare(Box::new(left), rest) })
    }

    pub(super) fn sum(&mut self) -> Parsed<Expr> {
        let mut left = self.concat()?;
        let mut chain = 0;
        loop {
            let op = match self.peek() {
                Tok::Op("+") => Binary::Add,
                Tok::Op("-") => Binary::Sub,
                _ => return Ok(left),
            };
            self.long_chain(&mut chain)?;
            self.next();
            left = Expr::Binary(op, Box::new(left), Box::new(self.concat()?));
        }
    }

    pub(super) fn concat(&mut self) -> Parsed<Expr> {
        let first = self.product()?;
        if !self.is_op("~") {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.skip_op("~") {
            parts.push(self.product()?);
        }
        Ok(Expr::Concat(parts))
    }

    pub(super) fn product(&mut self) -> Parsed<Expr> {
        let mut left = self.unary(true)?;
        let mut chain = 0;
        loop {
            let op = match self.peek() {
                Tok::Op("*") => Binary::Mul,
                Tok::Op("/") => Binary::Div,
                Tok::Op("//") => Binary::FloorDiv,
                Tok::Op("%") => Binary::Mod,
                // Jinja's power binds like the others to its left, and tighter.
                Tok::Op("**") => {
                    self.long_chain(&mut chain)?;
                    self.next();
                    let right = self.unary(true)?;
                    left = raise_last(left, right);
                    continue;
                }
                _ => return Ok(left),
            };
            self.long_chain(&mut chain)?;
            self.next();
            let mut right = self.unary(true)?;
            while self.skip_op("**") {
                self.long_chain(&mut chain)?;
                let exponent = self.unary(true)?;
                right = Expr::Binary(Binary::Pow, Box::new(right), Box::new(exponent));
            }
            left = Expr::Binary(op, Box::new(left), Box::new(right));
        }
    }

    pub(super) fn unary(&mut self, filters: bool) -> Parsed<Expr> {
        let mut node = if self.skip_op("-") {
            Expr::Neg(Box::new(self.deeper(|parser| parser.unary(false))?))
        } else if self.skip_op("+") {
            Expr::Pos(Box::new(self.deeper(|parser| parser.unary(false))?))
        } else {
            self.primary()?
        };
        let mut chain = 0;
        loop {
            if self.is_op(".") || self.is_op("[") {
                node = self.subscript(node)?;
            } else if self.is_op("(") {
                let args = self.args()?;
                node = Expr::Call(Box::new(node), Box::new(args));
            } else {
                break;
            }
            self.long_chain(&mut chain)?;
        }
        if !filters {
            return Ok(node);
        }
        loop {
            if self.skip_op("|") {
                let filter = self.filter()?;
                node = Expr::Filter(Box::new(node), Box::new(filter));
            } else if self.skip_name("is") {
                node = self.test(node)?;
            } else if self.is_op("(") {
                let args = self.args()?;
                node = Expr::Call(Box::new(node), Box::new(args));
            } else {
                break;
            }
            self.long_chain(&mut chain)?;
        }
        Ok(node)
    }

    pub(super) fn primary(&mut self) -> Parsed<Expr> {
        Ok(match self.next() {
            Tok::Name(name) => match &*name {
                "true" | "True" => Expr::Bool(true),
                "false" | "False" => Expr::Bool(false),
                "none" | "None" => Expr::None,
                _ => {
                    self.callers += usize::from(&*name == "caller");
                    Expr::Name(name)
                }
            },
            Tok::Str(text) => {
                let mut text = text;
                while let Tok::Str(more) = self.peek() {
                    text = format!("{text}{more}").into();
                    self.next();
                }
                Expr::Str(text)
            }
            Tok::Int(value) => Expr::Int(value),
            Tok::Float(value) => Expr::Float(value),
            Tok::Op("(") => {
                if self.skip_op(")") {
                    return Ok(Expr::Tuple(Vec::new()));
                }
                let inner = self.tuple(true)?;
                self.expect_op(")")?;
                inner
            }
            Tok::Op("[") => {
                let mut items = Vec::new();
                while !self.skip_op("]") {
                    if !items.is_empty() {
                        self.expect_op(",")?;
                        if self.skip_op("]") {
                            break;
                        }
                    }
                    items.push(self.expr()?);
                }
                Expr::List(items)
            }
            Tok::Op("{") => {
                let mut items = Vec::new();
                while !self.skip_op("}") {
                    if !items.is_empty() {
                        self.expect_op(",")?;
                        if self.skip_op("}") {
                            break;
                        }
                    }
                    let key = self.expr()?;
                    self.expect_op(":")?;
                    items.push((key, self.expr()?));
                }
                Expr::Dict(items)
            }
            _ => {
                self.at = self.at.saturating_sub(1);
                return Err(self.unexpected());
            }
        })
    }

    pub(super) fn subscript(&mut self, node: Expr) -> Parsed<Expr> {
        if self.skip_op(".") {
            if let Tok::Int(index) = *self.peek() {
                self.next();
                return Ok(Expr::Item(Box::new(node), Box::new(Expr::Int(index))));
            }
            return Ok(Expr::Attr(Box::new(node), self.name()?));
        }
        self.next();
        let mut bounds = [None, None, None];
        let mut part = 0;
        loop {
            if self.skip_op(":") {
                part += 1;
                if part > 2 {
                    return Err(self.unexpected());
                }
            } else if self.is_op("]") {
                break;
            } else if bounds[part].is_none() {
                bounds[part] = Some(self.expr()?);
            } else {
                return Err(self.unexpected());
            }
        }
        self.next();
        if part > 0 {
            return Ok(Expr::Slice(Box::new(node), Box::new(bounds)));
        }
        let [index, _, _] = bounds;
        let index = index.ok_or_else(|| self.fault("expected a subscript"))?;
        Ok(Expr::Item(Box::new(node), Box::new(index)))
    }

    pub(super) fn args(&mut self) -> Parsed<Args> {
        self.expect_op("(")?;
        let mut args = Args::default();
        let mut first = true;
        while !self.skip_op(")") {
            if !std::mem::take(&mut first) {
                self.expect_op(",")?;
                if self.skip_op(")") {
                    break;
                }
            }
            if self.skip_op("*") {
                args.star = Some(self.expr()?);
            } else if self.skip_op("**") {
                args.star_star = Some(self.expr()?);
            } else if matches!(self.peek(), Tok::Name(_)) && *self.peek2() == Tok::Op("=") {
                let name = self.name()?;
                self.next();
                args.named.push((name, self.expr()?));
            } else if args.named.is_empty() && args.star.is_none() && args.star_star.is_none() {
                args.positional.push(self.expr()?);
            } else {
                return Err(self.fault("invalid syntax for a function call"));
            }
        }
        Ok(args)
    }

    pub(super) fn filter(&mut self) -> Parsed<Filter> {
        let name = self.name()?;
        let args = if self.is_op("(") { self.args()? } else { Args::default() };
        Ok(Filter { name, args })
    }

    pub(super) fn filters(&mut self) -> Parsed<Vec<Filter>> {
        let mut filters = Vec::new();
        while self.skip_op("|") {
            filters.push(self.filter()?);
        }
        Ok(filters)
    }

    pub(super) fn test(&mut self, value: Expr) -> Parsed<Expr> {
        let negated = self.skip_name("not");
        let name = self.name()?;
        let starts_value = match self.peek() {
            Tok::Name(name) => !matches!(&**name, "else" | "or" | "and" | "is" | "if"),
            Tok::Str(_) | Tok::Int(_) | Tok::Float(_) => true,
            Tok::Op(op) => matches!(*op, "[" | "{"),
            _ => false,
        };
        let args = if self.is_op("(") {
            self.args()?
        } else if starts_value {
            let mut operand = self.deeper(|parser| parser.primary())?;
            let mut chain = 0;
            while self.is_op(".") || self.is_op("[") || self.is_op("(") {
                self.long_chain(&mut chain)?;
                operand = if self.is_op("(") {
                    let args = self.args()?;
                    Expr::Call(Box::new(operand), Box::new(args))
                } else {
                    self.subscript(operand)?
                };
            }
            Args { positional: vec![operand], ..Args::default() }
        } else {
            Args::default()
        };
        Ok(Expr::Test { value: Box::new(value), name, args: Box::new(args), negated })
    }
}

/// `a * b ** c` is `a * (b ** c)`, and `a ** b ** c` is `(a ** b) ** c`.
fn raise_last(left: Expr, exponent: Expr) -> Expr {
    Expr::Binary(Binary::Pow, Box::new(left), Box::new(exponent))
}
