//! A file that somebody picked, or that was fetched, behind a function of JavaScript.

use std::io::{Error, Result};
use std::sync::Mutex;

use js_sys::{Function, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use weft_formats::gguf::Pieces;

/// What `read(at, bytes)` of JavaScript gives, which a worker answers at once.
#[derive(Debug)]
pub(crate) struct Blob {
    size: u64,
    // For `Sync`, which no thread asks for here.
    read: Mutex<Function>,
}

impl Blob {
    pub(crate) fn new(size: u64, read: Function) -> Blob {
        Blob { size, read: Mutex::new(read) }
    }
}

impl Pieces for Blob {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<()> {
        let read = self.read.lock().map_err(|_| Error::other("an earlier read failed"))?;
        // Numbers of JavaScript are exact up to 2^53 bytes.
        let got = read.call2(&JsValue::NULL, &JsValue::from(at as f64), &JsValue::from(into.len() as f64));
        let got = got.map_err(|e| {
            let error = e.dyn_into::<js_sys::Error>().ok();
            Error::other(error.map_or_else(|| "it cannot be read".into(), |e| String::from(e.message())))
        })?;
        match got.dyn_into::<Uint8Array>() {
            Ok(bytes) if bytes.length() as usize == into.len() => {
                bytes.copy_to(into);
                Ok(())
            }
            _ => Err(Error::other(
                "fewer bytes came than were asked for: the file changed since it was picked",
            )),
        }
    }
}
