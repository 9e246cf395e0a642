//! SentencePiece's `tokenizer.model`: a small protocol-buffer reader and the mapping onto our parts.
//!
//! The file is a `ModelProto`: pieces with scores and types, a trainer spec (algorithm, byte
//! fallback, ids of the control pieces) and a normalizer spec. Unigram models map directly; for BPE
//! the merges are every split of a piece into two pieces, ranked by the score of the whole.

use std::collections::HashMap;

use super::decoder::Decoder;
use super::error::{Result, TextError, limit};
use super::model::{Bpe, Model};
use super::normalizer::{Charsmap, Normalizer};
use super::pretokenizer::{PreTokenizer, Prepend};
use super::spec::{Parts, Post, table, unigram};
use super::vocab::AddedToken;

const FILE: &str = "tokenizer.model";
const MOST_BYTES: usize = 64 << 20;

/// What a folder's other files say about a SentencePiece tokenizer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    /// Whether the dummy space goes before every stretch of text between control tokens, and not
    /// only before the first.
    pub(super) legacy: bool,
    pub(super) bos: bool,
    pub(super) eos: bool,
}

/// What a piece is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

/// A model as its file describes it.
#[derive(Debug)]
pub(super) struct Proto {
    pub(super) pieces: Vec<(String, f32, Kind)>,
    pub(super) bpe: bool,
    pub(super) byte_fallback: bool,
    pub(super) unk: i32,
    pub(super) bos: i32,
    pub(super) eos: i32,
    pub(super) charsmap: Vec<u8>,
    pub(super) dummy_prefix: bool,
    pub(super) collapse: bool,
}

/// Reads a `tokenizer.model`.
pub(super) fn read(bytes: &[u8], options: Options) -> Result<Parts> {
    limit(FILE, bytes.len(), MOST_BYTES)?;
    parts(&Proto::read(bytes)?, options)
}

/// The parts of a tokenizer from a model's description.
pub(super) fn parts(proto: &Proto, options: Options) -> Result<Parts> {
    let count = proto.pieces.len();
    let id = |id: i32| usize::try_from(id).ok().filter(|&id| id < count);
    let unk = id(proto.unk).filter(|&id| proto.pieces[id].2 == Kind::Unknown);
    let unk = unk.or_else(|| proto.pieces.iter().position(|p| p.2 == Kind::Unknown));

    let added = proto
        .pieces
        .iter()
        .enumerate()
        .filter(|(_, (_, _, kind))| matches!(kind, Kind::Control | Kind::UserDefined))
        .map(|(i, (piece, _, kind))| AddedToken {
            id: i as u32,
            content: piece.clone(),
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
            special: *kind == Kind::Control,
        })
        .collect::<Vec<_>>();

    let decoder = Decoder::sentencepiece(proto.dummy_prefix);
    let (model, mut vocab, unk) = if proto.bpe {
        bpe(proto, unk, decoder)?
    } else {
        let pieces = proto.pieces.iter().map(|(s, score, _)| (s.clone(), f64::from(*score)));
        unigram(pieces.collect(), unk, proto.byte_fallback, decoder)?
    };
    for token in &added {
        vocab.add(token)?;
    }

    let charsmap = match proto.charsmap.is_empty() {
        true => None,
        false => Some(Charsmap::new(&proto.charsmap, true)?),
    };
    let prepend = match (proto.dummy_prefix, options.legacy) {
        (false, _) => Prepend::Never,
        (true, true) => Prepend::Always,
        (true, false) => Prepend::First,
    };
    // The dummy space of the legacy form comes even before a space.
    let always = prepend == Prepend::Always;
    let normalizer = Normalizer::sentencepiece(charsmap, proto.collapse, always, true);
    let rest = if always { Prepend::Never } else { prepend };
    // No Unigram piece reaches over a space, so cutting there changes nothing and saves work.
    let pre_tokenizer = PreTokenizer::metaspace(rest, !proto.bpe);

    let control = |wanted: bool, at: i32| {
        let found = id(at).filter(|&at| wanted && proto.pieces[at].2 == Kind::Control);
        found.map(|at| at as u32).into_iter().collect::<Vec<_>>()
    };
    let post =
        Post { before: control(options.bos, proto.bos), after: control(options.eos, proto.eos) };
    Ok(Parts { model, vocab, unk, added, normalizer, pre_tokenizer, post })
}

fn bpe(
    proto: &Proto,
    unk: Option<usize>,
    decoder: Decoder,
) -> Result<(Model, super::vocab::Vocab, Option<u32>)> {
    let wrong = |reason: &str| TextError::malformed(FILE, "pieces", reason);
    let tokens = proto.pieces.iter().enumerate().map(|(i, (s, _, _))| (s.as_str(), i as u32));
    let vocab = table(tokens, decoder)?;
    let mut ids: HashMap<&str, u32> = HashMap::with_capacity(proto.pieces.len());
    for (i, (piece, _, kind)) in proto.pieces.iter().enumerate() {
        if matches!(kind, Kind::Normal | Kind::UserDefined) && ids.insert(piece, i as u32).is_some()
        {
            return Err(wrong("a piece is given twice"));
        }
    }
    // (score of the whole, left, right): better scores first, then longer left parts.
    let mut merges: Vec<(f32, &str, &str)> = Vec::new();
    for (piece, score, kind) in &proto.pieces {
        if *kind != Kind::Normal {
            continue;
        }
        limit("a piece of a BPE model", piece.len(), 1024)?;
        let mut splits: Vec<(u32, u32, &str, &str)> = Vec::new();
        for (at, _) in piece.char_indices().skip(1) {
            let (left, right) = piece.split_at(at);
            if let (Some(&l), Some(&r)) = (ids.get(left), ids.get(right)) {
                splits.push((l, r, left, right));
            }
        }
        splits.sort_unstable();
        merges.extend(splits.into_iter().map(|(_, _, left, right)| (*score, left, right)));
    }
    merges.sort_by(|a, b| {
        let key = |m: &(f32, &str, &str)| (m.1.chars().count(), m.2.chars().count());
        b.0.total_cmp(&a.0).then_with(|| key(b).cmp(&key(a)))
    });
    if proto.byte_fallback {
        let bytes = proto.pieces.iter().filter(|p| p.2 == Kind::Byte).count();
        if bytes != 256 {
            return Err(wrong("a byte piece is missing"));
        }
    }
    let merges = merges.into_iter().map(|(_, l, r)| (l.to_owned(), r.to_owned())).collect();
    let model = Model::bpe(Bpe {
        vocab: proto.pieces.iter().enumerate().map(|(i, p)| (p.0.clone(), i as u32)).collect(),
        merges,
        unk: unk.map(|id| proto.pieces[id].0.clone()),
        fuse_unk: true,
        byte_fallback: proto.byte_fallback,
        ..Bpe::default()
    })?;
    Ok((model, vocab, unk.map(|id| id as u32)))
}

impl Proto {
    fn read(bytes: &[u8]) -> Result<Self> {
        // Defaults are the format's.
        let mut proto = Proto {
            pieces: Vec::new(),
            bpe: false,
            byte_fallback: false,
            unk: 0,
            bos: 1,
            eos: 2,
            charsmap: Vec::new(),
            dummy_prefix: true,
            collapse: true,
        };
        let mut message = Message::new(bytes);
        while let Some((number, field)) = message.next()? {
            match (number, field) {
                (1, Field::Bytes(piece)) => {
                    let piece = read_piece(piece, proto.pieces.len())?;
                    proto.pieces.push(piece);
                }
                (2, Field::Bytes(spec)) => proto.read_trainer(spec)?,
                (3, Field::Bytes(spec)) => proto.read_normalizer(spec)?,
                _ => {}
            }
        }
        if proto.pieces.is_empty() {
            return Err(TextError::malformed(FILE, "pieces", "there are none"));
        }
        Ok(proto)
    }

    fn read_trainer(&mut self, bytes: &[u8]) -> Result<()> {
        let mut message = Message::new(bytes);
        while let Some((number, field)) = message.next()? {
            match (number, field) {
                (3, Field::Varint(1)) => self.bpe = false,
                (3, Field::Varint(2)) => self.bpe = true,
                (3, Field::Varint(other)) => {
                    return Err(TextError::unsupported(FILE, format_args!("model type {other}")));
                }
                (24, Field::Varint(1)) => {
                    return Err(TextError::unsupported(FILE, "whitespace as a suffix"));
                }
                (35, Field::Varint(on)) => self.byte_fallback = on != 0,
                // Ids are 32-bit; -1 (absent) is written as a 64-bit varint.
                (40, Field::Varint(id)) => self.unk = id as i32,
                (41, Field::Varint(id)) => self.bos = id as i32,
                (42, Field::Varint(id)) => self.eos = id as i32,
                _ => {}
            }
        }
        Ok(())
    }

    fn read_normalizer(&mut self, bytes: &[u8]) -> Result<()> {
        let mut message = Message::new(bytes);
        while let Some((number, field)) = message.next()? {
            match (number, field) {
                (2, Field::Bytes(map)) => self.charsmap = map.to_vec(),
                (3, Field::Varint(on)) => self.dummy_prefix = on != 0,
                (4, Field::Varint(on)) => self.collapse = on != 0,
                (5, Field::Varint(0)) => {
                    return Err(TextError::unsupported(FILE, "unescaped spaces"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn read_piece(bytes: &[u8], index: usize) -> Result<(String, f32, Kind)> {
    let wrong = |reason| TextError::malformed(FILE, format_args!("pieces[{index}]"), reason);
    let (mut text, mut score, mut kind) = (String::new(), 0.0f32, Kind::Normal);
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (1, Field::Bytes(bytes)) => {
                text = String::from_utf8(bytes.to_vec()).map_err(|_| wrong("not UTF-8"))?;
            }
            (2, Field::Fixed32(bits)) => score = f32::from_bits(bits),
            (3, Field::Varint(n)) => {
                kind = match n {
                    1 => Kind::Normal,
                    2 => Kind::Unknown,
                    3 => Kind::Control,
                    4 => Kind::UserDefined,
                    5 => Kind::Unused,
                    6 => Kind::Byte,
                    _ => return Err(wrong("unknown type")),
                };
            }
            _ => {}
        }
    }
    if text.is_empty() {
        return Err(wrong("an empty piece"));
    }
    if !score.is_finite() {
        return Err(wrong("the score is not a number"));
    }
    Ok((text, score, kind))
}

/// A protocol-buffer message, read field by field without copying.
struct Message<'a> {
    all: &'a [u8],
    at: usize,
}

enum Field<'a> {
    Varint(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
    /// 64-bit numbers, which this format does not use.
    Other,
}

impl<'a> Message<'a> {
    fn new(all: &'a [u8]) -> Self {
        Message { all, at: 0 }
    }

    fn wrong(&self, reason: &str) -> TextError {
        TextError::malformed(FILE, format_args!("byte {} of a message", self.at), reason)
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let &byte = self.all.get(self.at).ok_or_else(|| self.wrong("cut off"))?;
            self.at += 1;
            if shift < 64 {
                value |= u64::from(byte & 0x7f) << shift;
            }
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.wrong("a number is too long"))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(len).filter(|&end| end <= self.all.len());
        let end = end.ok_or_else(|| self.wrong("a field is longer than its message"))?;
        let bytes = &self.all[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    fn next(&mut self) -> Result<Option<(u64, Field<'a>)>> {
        if self.at == self.all.len() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => {
                self.take(8)?;
                Field::Other
            }
            2 => {
                let len = self.varint()?;
                let len = usize::try_from(len).map_err(|_| self.wrong("a length is too large"))?;
                Field::Bytes(self.take(len)?)
            }
            5 => {
                let bytes = self.take(4)?;
                Field::Fixed32(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            }
            _ => return Err(self.wrong("unknown wire type")),
        };
        Ok(Some((tag >> 3, field)))
    }
}
