//! What went wrong, where, and with which operands.

use crate::{DType, Shape};
use std::panic::Location;
use std::sync::Arc;

/// The category of an [`OpError`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Shapes do not fit the operation or one another.
    Shape,
    /// The operation is not defined for a dtype.
    DType,
    /// An axis is out of range or repeated.
    Axis,
    /// An index is out of bounds.
    Index,
    /// An argument's value is not allowed.
    Value,
    /// Memory could not be had, or the configured limit would be passed.
    OutOfMemory,
    /// A file could not be read as expected.
    Io,
    /// A device failed.
    Device,
    /// A bug of Lazul's own: please report it.
    Internal,
}

/// An error of an array operation: what, with which operands, and on which line of the caller.
#[derive(Clone)]
pub struct OpError(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    op: &'static str,
    message: String,
    operands: Vec<(DType, Shape)>,
    site: Option<&'static Location<'static>>,
    scope: Option<String>,
}

impl OpError {
    /// An error of operation `op`.
    pub fn new(kind: ErrorKind, op: &'static str, message: impl Into<String>) -> OpError {
        OpError(Arc::new(Inner {
            kind,
            op,
            message: message.into(),
            operands: Vec::new(),
            site: None,
            scope: None,
        }))
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> OpError {
        let inner = Arc::make_mut(&mut self.0);
        change(inner);
        self
    }

    /// Adds the operands' dtypes and shapes.
    pub fn operands(self, operands: impl IntoIterator<Item = (DType, Shape)>) -> OpError {
        let operands = operands.into_iter().collect();
        self.with(|e| e.operands = operands)
    }

    /// Adds the line of the call, unless one is known already.
    pub fn at(self, site: &'static Location<'static>) -> OpError {
        if self.0.site.is_some() { self } else { self.with(|e| e.site = Some(site)) }
    }

    /// Adds the module path (`model.layers.3.self_attn`), unless one is known already.
    pub fn scope(self, scope: &str) -> OpError {
        if self.0.scope.is_some() { self } else { self.with(|e| e.scope = Some(scope.to_string())) }
    }

    /// The category.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The operation's name.
    pub fn op(&self) -> &'static str {
        self.0.op
    }

    /// What was wrong, without operation, operands and place.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The line of the call that was wrong.
    pub fn site(&self) -> Option<&'static Location<'static>> {
        self.0.site
    }
}

impl Clone for Inner {
    fn clone(&self) -> Inner {
        Inner {
            kind: self.kind,
            op: self.op,
            message: self.message.clone(),
            operands: self.operands.clone(),
            site: self.site,
            scope: self.scope.clone(),
        }
    }
}

impl std::fmt::Display for OpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let e = &*self.0;
        write!(f, "[{}] {}", e.op, e.message)?;
        if !e.operands.is_empty() {
            f.write_str("; operands: ")?;
            for (i, (dtype, shape)) in e.operands.iter().enumerate() {
                if i > 0 {
                    f.write_str(", ")?;
                }
                write!(f, "{dtype}{shape}")?;
            }
        }
        if let Some(scope) = &e.scope {
            write!(f, "; in {scope}")?;
        }
        if let Some(site) = e.site {
            write!(f, "; at {}:{}:{}", site.file(), site.line(), site.column())?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for OpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for OpError {}
