//! Fine-tuning: low-rank adapters (LoRA, DoRA) beside dense or quantized matrices, or whole layers.
//!
//! Options, data sets and files are mlx-lm's: what it writes is read here, and the other way round; adapters of
//! PEFT are read as well ([`load_adapters`]) and written ([`save_peft`]). A copy of a model shares its arrays, so
//! several adapters on one base are copies with an adapter each; adapters that are loaded one after the other add
//! up.
//! [`TuneConfig`] has the options; [`load`] reads examples; [`prepare`] puts adapters beside the matrices;
//! [`train()`] trains; [`load_adapters`] reads adapters and [`fuse`] merges them.
//!
//! ```
//! use lazul_lm::tune::{Example, TrainOptions, TuneConfig, evaluate, fuse, load_adapters, prepare, train};
//! # let sizes = serde_json::json!({
//! #     "model_type": "llama", "vocab_size": 16, "hidden_size": 16, "intermediate_size": 32,
//! #     "num_hidden_layers": 2, "num_attention_heads": 2,
//! # });
//! # let model = lazul_lm::pretrain::init(&sizes, 0)?;
//! # let folder = std::env::temp_dir().join(format!("lazul-tune-{}", std::process::id()));
//! // Usually from `Checkpoint::open` and `load`; here a tiny model, and one row to learn by heart.
//! let rows = vec![Example { tokens: vec![3, 1, 4, 1, 5, 9, 2, 6], offset: 0 }; 2];
//! let options = serde_json::json!({
//!     "adapter_path": folder.to_str(),
//!     "iters": 30,
//!     "batch_size": 2,
//!     "learning_rate": 1e-2,
//! });
//! let config = TuneConfig::merged(&[options.as_object().unwrap()])?;
//! let loss = |m: &dyn lazul_lm::models::LanguageModel| evaluate(m, &rows, &config, None, &mut |_, _| ());
//! let before = loss(&*model)?;
//! let tuned = prepare(model.clone(), &config)?;
//! train(tuned, &config, rows.clone(), &[], &TrainOptions::default(), &mut |_| ())?;
//!
//! let mut adapted = model;
//! load_adapters(&mut adapted, &folder)?;
//! assert!(loss(&*adapted)? < before);
//! let after = loss(&*adapted)?;
//! assert_eq!(fuse(&mut *adapted, false)?, 14); // seven matrices in each of two layers
//! assert!((loss(&*adapted)? - after).abs() < 1e-3);
//! # std::fs::remove_dir_all(folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod adapters;
mod config;
mod data;
mod optimizer;
mod pack;
mod peft;
mod run;

pub use adapters::{Tuned, attach, fuse, has_blocks, load_adapters, sizes, trainable};
pub use config::{Features, LoraParameters, TuneConfig, TuneType};
pub use data::{Batch, Example, batch, batches, load};
pub use pack::{Packed, packed_batches, packed_loss, packs};
pub use peft::save_peft;
pub use run::{TrainOptions, evaluate, loss, prepare, train};
