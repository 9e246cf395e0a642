//! `lazul fuse`: a model with its adapters merged in, as a folder of its own.

use crate::args::FuseArgs;
use crate::{embedded, open, output};
use anyhow::{Context, bail};
use lazul_core::Quantization;
use lazul_io::folder::WeightOptions;
use lazul_io::{FolderWriter, ModelFolder};
use lazul_lm::export_gguf;
use lazul_lm::models::LanguageModel;
use lazul_lm::tune::{fuse, has_blocks, load_adapters};
use lazul_nn::{Matrix, Module};
use serde_json::json;
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
    let dense = args.dequantize || args.q_bits.is_some();
    fuse(&mut *checkpoint.model, dense)?;
    let mut config = checkpoint.config.clone();
    if dense {
        output::line("Dequantizing model");
        if let Some(config) = config.as_object_mut() {
            config.shift_remove("quantization");
            config.shift_remove("quantization_config");
        }
    }
    if let Some(bits) = args.q_bits {
        output::line(format!("Quantizing model to {bits} bits"));
        let group_size = args.q_group_size;
        quantize(&mut *checkpoint.model, Quantization::Affine { bits, group_size })?;
        let form = json!({ "group_size": group_size, "bits": bits, "mode": "affine" });
        config["quantization"] = form.clone();
        config["quantization_config"] = form;
    }
    if has_blocks(&*checkpoint.model) {
        bail!("a model of blocks is not written as a folder; --dequantize makes it dense");
    }
    writer.config(&config)?;
    writer.weights(checkpoint.model.parameters(), &WeightOptions::default())?;
    let folder = args.model.as_deref().map(ModelFolder::open).transpose()?;
    match &folder {
        Some(folder) => writer.copy_tokenizer(folder)?,
        None => {
            for (name, bytes) in embedded::FILES {
                if !matches!(*name, "config.json" | "model.safetensors") {
                    writer.file(name, bytes)?;
                }
            }
        }
    }
    writer.finish()?;
    if args.export_gguf {
        let file = |name: &str| match &folder {
            Some(folder) => Ok(folder.bytes(name)?),
            None => {
                let found = embedded::FILES.iter().find(|(n, _)| *n == name);
                Ok(found.map(|(_, bytes)| bytes.to_vec()))
            }
        };
        let path = args.save_path.join(&args.gguf_path);
        output::line("Converting to GGUF format");
        let text = &checkpoint.text;
        export_gguf(&*checkpoint.model, &config, text, &file, &path).context("--export-gguf")?;
        output::line(format!("Converted GGUF model saved as: {}", path.display()));
    }
    output::line(format!("Saved fused model to {}", args.save_path.display()));
    Ok(ExitCode::SUCCESS)
}

/// Quantizes every matrix.
fn quantize(model: &mut dyn LanguageModel, form: Quantization) -> anyhow::Result<()> {
    let mut failed = None;
    model.matrices_mut(&mut |path, matrix| {
        let weight = match matrix {
            Matrix::Linear(linear) => &mut linear.weight,
            Matrix::Embedding(table) => &mut table.weight,
        };
        match weight.quantize(form) {
            Ok(quantized) => *weight = quantized,
            Err(e) => failed = failed.take().or(Some((path.to_string(), e))),
        }
    });
    match failed {
        Some((path, e)) => Err(anyhow::Error::from(e).context(path)),
        None => Ok(()),
    }
}
