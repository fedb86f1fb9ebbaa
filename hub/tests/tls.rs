//! https, against a server of ours with a certificate of an authority of ours.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use weft_hub::{Kind, Options};

use super::hub::gguf;
use super::{get, options, store};

fn pem(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
}

/// Sends this to whoever asks.
fn start(head: String, bytes: Vec<u8>) -> SocketAddr {
    let certificate = CertificateDer::from_pem_file(pem("cert.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(pem("key.pem")).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls_graviola::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a pair");
    let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").expect("a port"));
    let at = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = ServerConnection::new(config.clone()).expect("a connection");
            let mut tls = StreamOwned::new(connection, stream);
            // Who does not trust the certificate goes.
            if tls.read(&mut [0; 4096]).is_ok() {
                let _ = tls.write_all(head.as_bytes()).and_then(|()| tls.write_all(&bytes));
                tls.conn.send_close_notify();
                let _ = tls.flush();
            }
        }
    });
    at
}

#[test]
fn https_is_spoken_with_servers_that_prove_who_they_are() {
    let bytes = gguf(300_000, 0.0, None);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nETag: \"a\"\r\n\r\n", bytes.len());
    let port = start(head, bytes.clone()).port();
    let url = format!("https://localhost:{port}/m.gguf");
    let trusting = Options { authorities: Some(pem("authority.pem")), tries: 1, ..options(&url) };
    let pulled = get(&store("tls"), &url, &trusting).expect("pulled");
    assert!(std::fs::read(&pulled.entry.files[0]).expect("a file") == bytes);
    // An authority that nobody has heard of, and another name than the certificate's.
    let e = get(&store("tls"), &url, &Options { authorities: None, ..trusting.clone() }).unwrap_err();
    assert!(e.kind == Kind::Tls && e.line.contains("UnknownIssuer"), "{e}");
    let other = format!("https://127.0.0.1:{port}/m.gguf");
    let e = get(&store("tls"), &other, &trusting).unwrap_err();
    assert!(e.kind == Kind::Tls && e.line.contains("not valid for"), "{e}");
    // One that speaks no TLS.
    let plain = super::Hub::start(|_, _| super::reply(200, ""));
    let e =
        get(&store("tls"), &format!("https://localhost:{}/m.gguf", plain.at.port()), &trusting).unwrap_err();
    assert!(matches!(e.kind, Kind::Tls | Kind::Network), "{e:?}");
}

#[test]
fn https_does_not_lead_to_http() {
    let bytes = gguf(100, 0.0, None);
    let plain = super::Hub::start(move |asked, _| super::file(asked, &bytes, "\"a\""));
    let head =
        format!("HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", plain.url("m.gguf"));
    let url = format!("https://localhost:{}/m.gguf", start(head, Vec::new()).port());
    let trusting = Options { authorities: Some(pem("authority.pem")), ..options(&url) };
    let e = get(&store("tls-down"), &url, &trusting).unwrap_err();
    assert!(e.kind == Kind::Protocol && e.line.contains("from https to http://127.0.0.1"), "{e}");
    assert!(plain.asked().is_empty());
}
