//! What `weft serve` does for other machines, and with them.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use clap::Args;
use weft_server::{Peers, peers};

use crate::cmd::pair::FolderFlags;
use crate::{Error, Result};

/// Other machines.
#[derive(Debug, Clone, Args)]
pub(super) struct PeerFlags {
    /// Let another machine use this one: show a code for it, good once and for ten minutes, tell the network (mDNS), and
    /// answer all machines that are paired
    #[arg(long, help_heading = "Other machines")]
    pair: bool,
    /// Answer the machines that are paired, without a code for a further one and without telling the network
    #[arg(long, help_heading = "Other machines")]
    peers: bool,
    /// Address and port where other machines are answered
    #[arg(long, value_name = "ADDRESS:PORT", default_value_t = SocketAddr::from(([0, 0, 0, 0], peers::PORT)),
          help_heading = "Other machines")]
    peer_address: SocketAddr,
    /// A model of this machine that answers where another machine is away; one of the same name needs no flag
    #[arg(long, value_name = "MODEL", help_heading = "Other machines")]
    pub(super) fallback: Option<String>,
    #[command(flatten)]
    folder: FolderFlags,
}

/// The address of this computer in its network, if it has one; nothing is sent.
fn own_address() -> Option<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // An address of documentation, which is somewhere beyond the router.
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then(|| ip.to_string())
}

impl PeerFlags {
    /// The other machines, and lines that say how this one is used by them.
    ///
    /// # Errors
    /// The folder is of no use, or another program listens at the address.
    pub(super) fn open(&self) -> Result<(Option<Peers>, Vec<String>)> {
        if !self.pair && !self.peers {
            return Ok((self.folder.peers().map(|p| p.with_fallback(self.fallback.clone())), Vec::new()));
        }
        let listener = TcpListener::bind(self.peer_address).map_err(|e| {
            let way_out = match e.kind() {
                std::io::ErrorKind::AddrInUse => {
                    "another program listens there, --peer-address names another port".to_owned()
                }
                _ => e.to_string(),
            };
            Error::input(format!("{}: {way_out}", self.peer_address))
        })?;
        let at = listener.local_addr().map_err(|e| Error::input(e.to_string()))?;
        let peers = self.folder.needed()?.with_fallback(self.fallback.clone());
        let peers = peers.listen(listener).map_err(Error::input)?;
        let mut lines = vec![format!("answering paired machines at {at}, as \"{}\"", peers.name())];
        if self.pair {
            if !at.ip().is_loopback()
                && let Err(e) = peers.announce()
            {
                lines.push(format!("the network is not told of this machine: {e}"));
            }
            let code = peers.open_door().map_err(Error::input)?;
            let host = match at.ip().is_unspecified() {
                true => own_address().unwrap_or_else(|| "HOST".to_owned()),
                false if at.is_ipv6() => format!("[{}]", at.ip()),
                false => at.ip().to_string(),
            };
            let port = if at.port() == peers::PORT { String::new() } else { format!(":{}", at.port()) };
            lines.push(format!(
                "to use this machine from another one, within ten minutes: weft pair {code}@{host}{port}"
            ));
        }
        Ok((Some(peers), lines))
    }
}
