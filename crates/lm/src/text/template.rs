//! placeholder
/// A rendered prompt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prompt {
    /// The text.
    pub text: String,
    /// Byte positions, in order, that no control token may lie across.
    pub barriers: Vec<usize>,
}
