//! A module as a table for people.

use crate::module::{Module, Role};
use crate::visitor::Visitor;
use lazul_core::{Result, Shape};
use std::fmt::Write;

pub(crate) fn summary<M: Module + ?Sized>(module: &M) -> Result<String> {
    let mut rows = Vec::new();
    let mut keep = |path: &str, array, role| rows.push((path.to_string(), array, role));
    module.visit(&mut Visitor::new(&mut keep));
    let (mut all, mut trainable) = (0, 0);
    let mut lines = Vec::new();
    let mut open: Vec<String> = Vec::new();
    for (path, array, role) in &rows {
        let mut names: Vec<&str> = path.split('.').collect();
        let last = names.pop().unwrap_or_default();
        let shared = open.iter().zip(&names).take_while(|(a, b)| a == *b).count();
        open.truncate(shared);
        for name in &names[shared..] {
            lines.push((format!("{}{name}", "  ".repeat(open.len())), None));
            open.push(name.to_string());
        }
        let dtype = array.dtype()?;
        let note = match role {
            Role::Parameter if dtype.is_float() => "",
            Role::Parameter | Role::Buffer => "  buffer",
            Role::Frozen => "  frozen",
        };
        all += array.size()?;
        trainable += if note.is_empty() { array.size()? } else { 0 };
        let shape = Shape::new(array.shape()?).to_string();
        lines.push((format!("{}{last}", "  ".repeat(open.len())), Some((shape, dtype, note))));
    }
    let width = |f: &dyn Fn(&(String, Option<(String, _, _)>)) -> usize| lines.iter().map(f).max();
    let names = width(&|(name, _)| name.chars().count()).unwrap_or(0);
    let shapes = width(&|(_, rest)| rest.as_ref().map_or(0, |(s, _, _)| s.len())).unwrap_or(0);
    let mut text = String::new();
    for (name, rest) in &lines {
        let written = match rest {
            None => writeln!(text, "{name}"),
            Some((shape, dtype, note)) => {
                writeln!(text, "{name:names$}  {shape:shapes$}  {dtype}{note}")
            }
        };
        written.unwrap_or_else(|_| unreachable!("a string takes any text"));
    }
    Ok(text + &format!("{all} elements, {trainable} of them trainable"))
}
