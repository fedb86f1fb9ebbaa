//! TLS without a line of C: rustls, with the cryptography of graviola, whose hard parts are assembly that was proven
//! correct and that rustc itself assembles. It asks for instructions that processors have since about 2014, which is
//! checked before it is called.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod with {
    use std::io::ErrorKind;
    use std::net::TcpStream;
    use std::path::Path;
    use std::sync::Arc;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

    use crate::error::{Error, Kind, Result};
    use crate::http::Patience;

    pub(crate) type Tls = Box<StreamOwned<ClientConnection, TcpStream>>;

    /// What graviola needs and would panic without.
    #[cfg(target_arch = "x86_64")]
    fn has_instructions() -> bool {
        std::arch::is_x86_feature_detected!("aes")
            && std::arch::is_x86_feature_detected!("ssse3")
            && std::arch::is_x86_feature_detected!("avx")
            && std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("adx")
            && std::arch::is_x86_feature_detected!("bmi1")
            && std::arch::is_x86_feature_detected!("bmi2")
            && std::arch::is_x86_feature_detected!("pclmulqdq")
    }

    #[cfg(target_arch = "aarch64")]
    fn has_instructions() -> bool {
        std::arch::is_aarch64_feature_detected!("aes")
            && std::arch::is_aarch64_feature_detected!("sha2")
            && std::arch::is_aarch64_feature_detected!("pmull")
            && std::arch::is_aarch64_feature_detected!("neon")
    }

    /// Trusts Mozilla's authorities, and those of a file.
    fn config(more: Option<&Path>) -> std::result::Result<Arc<ClientConfig>, String> {
        if !has_instructions() {
            return Err("this processor lacks instructions that TLS needs here; fetch the file by another program, or \
                        name a hub of http:// by --endpoint"
                .into());
        }
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(path) = more {
            let wrong = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
            for one in CertificateDer::pem_file_iter(path).map_err(|e| wrong(&e))? {
                roots.add(one.map_err(|e| wrong(&e))?).map_err(|e| wrong(&e))?;
            }
        }
        let config = ClientConfig::builder_with_provider(Arc::new(rustls_graviola::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?;
        Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
    }

    pub(crate) fn connect(host: &str, mut socket: TcpStream, patience: &Patience<'_>) -> Result<Tls> {
        let config = config(patience.authorities).map_err(|why| Error::new(Kind::Tls, why))?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| Error::new(Kind::Tls, format!("{host}: no certificate can have this name")))?;
        let mut connection =
            ClientConnection::new(config, name).map_err(|e| Error::new(Kind::Tls, format!("{host}: {e}")))?;
        let since = std::time::Instant::now();
        while connection.is_handshaking() {
            match connection.complete_io(&mut socket) {
                Ok(_) => {}
                Err(e) if crate::http::is_late(&e) => patience.check(host, since)?,
                Err(e) if e.kind() == ErrorKind::InvalidData => {
                    let line = format!("{host}: no safe connection: {e}");
                    return Err(Error::new(Kind::Tls, line));
                }
                Err(e) => return Err(crate::http::broke(host, &e)),
            }
        }
        Ok(Box::new(StreamOwned::new(connection, socket)))
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) use with::{Tls, connect};

/// There is none for this processor.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) type Tls = std::net::TcpStream;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn connect(
    host: &str,
    _: std::net::TcpStream,
    _: &crate::http::Patience<'_>,
) -> crate::error::Result<Tls> {
    let line = format!(
        "{host}: weft speaks no https on this processor; fetch the file by another program, or name a hub of http:// \
         by --endpoint"
    );
    Err(crate::error::Error::new(crate::error::Kind::Tls, line))
}
