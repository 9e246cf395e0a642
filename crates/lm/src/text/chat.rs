//! A conversation, as the caller hands it over.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::{Result, TextError, clip};
use super::jinja::Field;

/// One message of a conversation.
///
/// ```
/// use lazul_lm::text::Message;
///
/// let message: Message = serde_json::from_str(r#"{"role": "user", "content": "Hi"}"#)?;
/// assert_eq!(message, Message::new("user", "Hi"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, `tool`, or what the model's template knows.
    pub role: String,
    /// What is said: text, a list of parts, or null. Templates can tell null from not there at all.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub content: Option<Value>,
    /// Everything else: `name`, `tool_calls`, `reasoning_content`, …
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Keeps a null that is there.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl Message {
    /// A message of text.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Message {
            role: role.into(),
            content: Some(Value::String(content.into())),
            extra: Map::new(),
        }
    }

    /// The fields as a template sees them.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&str, Field<'_>)> {
        let content = self.content.as_ref().map(|content| ("content", Field::Json(content)));
        let extra =
            self.extra.iter().filter(|(key, _)| !matches!(key.as_str(), "role" | "content"));
        [("role", Field::Text(&self.role))]
            .into_iter()
            .chain(content)
            .chain(extra.map(|(key, value)| (key.as_str(), Field::Json(value))))
    }

    /// The text that a continuation goes on from: the content, or its last text part.
    pub(super) fn last_text(&self) -> Option<&str> {
        match self.content.as_ref()? {
            Value::String(text) => Some(text),
            Value::Array(parts) => {
                parts.iter().rev().find_map(|part| part.get("text").and_then(Value::as_str))
            }
            _ => None,
        }
    }
}

/// A conversation and how to put it to the model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chat {
    /// The messages in order.
    pub messages: Vec<Message>,
    /// Descriptions of tools that the model may call (JSON schemas).
    pub tools: Option<Value>,
    /// Documents for retrieval-augmented templates.
    pub documents: Option<Value>,
    /// Whether the prompt ends by opening the model's turn.
    pub add_generation_prompt: bool,
    /// Whether the prompt ends inside the last message, for the model to continue it.
    pub continue_final_message: bool,
    /// Which of the model's templates to use, where it has several.
    pub template: Option<String>,
    /// Further variables of the template, such as `enable_thinking`.
    pub variables: Map<String, Value>,
}

/// Names that a caller's variables may not take: they are arguments of their own or functions of
/// the template language.
const RESERVED: [&str; 22] = [
    "messages",
    "tools",
    "documents",
    "add_generation_prompt",
    "continue_final_message",
    "tokenize",
    "template",
    "chat_template",
    "conversation",
    "bos_token",
    "eos_token",
    "pad_token",
    "unk_token",
    "raise_exception",
    "strftime_now",
    "namespace",
    "range",
    "dict",
    "loop",
    "caller",
    "self",
    "return_dict",
];

impl Chat {
    /// A conversation that the model is to answer.
    pub fn new(messages: impl Into<Vec<Message>>) -> Self {
        Chat { messages: messages.into(), add_generation_prompt: true, ..Chat::default() }
    }

    /// A conversation whose last message the model is to continue.
    pub fn to_continue(messages: impl Into<Vec<Message>>) -> Self {
        Chat { messages: messages.into(), continue_final_message: true, ..Chat::default() }
    }

    /// The conversation with tools.
    #[must_use]
    pub fn with_tools(mut self, tools: Value) -> Self {
        self.tools = Some(tools);
        self
    }

    /// The conversation with a further variable for the template.
    #[must_use]
    pub fn with_variable(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        if let Some(name) = self.variables.keys().find(|name| RESERVED.contains(&name.as_str())) {
            let name = clip(name);
            return Err(TextError::Invalid(format!("the template variable {name:?} is reserved")));
        }
        if self.continue_final_message && self.add_generation_prompt {
            return Err(TextError::Invalid(
                "a prompt either continues the last message or opens a new turn".into(),
            ));
        }
        if self.continue_final_message && self.messages.is_empty() {
            return Err(TextError::Invalid("there is no message to continue".into()));
        }
        Ok(())
    }
}
