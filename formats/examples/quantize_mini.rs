//! Quantises weft-mini's F16 file to the mix that is embedded in the binary:
//!
//!     cargo run --release -p weft-formats --example quantize_mini -- IN.gguf OUT.gguf
//!
//! Gate and up projections are Q5_K, every other matrix Q6_K, norms F32: under 6,000,000 bytes.

use std::path::Path;
use weft_formats::gguf::{File, TensorInfo, Value, Writer};
use weft_formats::quant::{self, Type};

fn target(tensor: &TensorInfo) -> Type {
    match tensor.name.as_str() {
        _ if tensor.shape.len() < 2 => Type::F32,
        name if name.contains("ffn_gate") || name.contains("ffn_up") => Type::Q5_K,
        _ => Type::Q6_K,
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, source, out] = args.as_slice() else { return Err("give an input and an output file".into()) };
    let file = File::open(Path::new(source))?;
    let mut metadata = file.metadata().clone();
    // 17: mostly Q5_K_M in llama.cpp's list.
    metadata.set("general.file_type", Value::U32(17));
    let table = file.tensors().iter().map(|t| (t.name.clone(), t.shape.clone(), target(t)));
    let writer = Writer::new(&metadata, table)?;
    println!("{} bytes", writer.size());
    writer.write_to(Path::new(out), |t, bytes| -> Result<(), Box<dyn std::error::Error>> {
        let source = file.tensor(&t.name).ok_or("tensor missing")?;
        let mut values = vec![0.0; source.elements() as usize];
        quant::dequantize(source.ty, file.bytes(source), &mut values)?;
        Ok(quant::quantize(t.ty, &values, None, bytes)?)
    })
}
