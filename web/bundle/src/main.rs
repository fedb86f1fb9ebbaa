//! Writes the JavaScript beside a WebAssembly module that wasm-bindgen was compiled into, as modules for a worker.
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [module, folder] = &args[..] else {
        eprintln!("usage: weft-bundle MODULE.wasm FOLDER");
        return ExitCode::from(2);
    };
    let mut bindgen = wasm_bindgen_cli_support::Bindgen::new();
    let web = bindgen.input_path(module).out_name("weft").typescript(false).web(true);
    match web.and_then(|b| b.generate(folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}
