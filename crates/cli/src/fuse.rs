//! `lazul fuse`: a model with its adapters merged in, as a folder of its own.

use crate::args::FuseArgs;
use crate::{embedded, open, output};
use anyhow::{Context, bail};
use lazul_io::folder::WeightOptions;
use lazul_io::{FolderWriter, ModelFolder};
use lazul_lm::tune::{fuse, has_blocks, load_adapters};
use lazul_nn::Module;
use std::process::ExitCode;

pub(crate) fn run(args: &FuseArgs) -> anyhow::Result<ExitCode> {
    output::line("Loading pretrained model");
    let mut checkpoint = open::by_name(args.model.as_deref())?;
    if args.model.as_ref().is_some_and(|m| m.to_ascii_lowercase().ends_with(".gguf")) {
        bail!("a GGUF file has no tokenizer files to go with a folder: fuse needs a model folder");
    }
    let writer = FolderWriter::create(&args.save_path).context("--save-path")?;
    for folder in &args.adapter_path {
        load_adapters(&mut checkpoint.model, folder).context("--adapter-path")?;
    }
    fuse(&mut *checkpoint.model, args.dequantize)?;
    let mut config = checkpoint.config.clone();
    if args.dequantize {
        output::line("Dequantizing model");
        if let Some(config) = config.as_object_mut() {
            config.shift_remove("quantization");
            config.shift_remove("quantization_config");
        }
    }
    if has_blocks(&*checkpoint.model) {
        bail!("a model of blocks is not written as a folder; --dequantize makes it dense");
    }
    writer.config(&config)?;
    writer.weights(checkpoint.model.parameters(), &WeightOptions::default())?;
    match &args.model {
        Some(name) => writer.copy_tokenizer(&ModelFolder::open(name)?)?,
        None => {
            for (name, bytes) in embedded::FILES {
                if !matches!(*name, "config.json" | "model.safetensors") {
                    writer.file(name, bytes)?;
                }
            }
        }
    }
    writer.finish()?;
    output::line(format!("Saved fused model to {}", args.save_path.display()));
    Ok(ExitCode::SUCCESS)
}
