//! Machines of the same network, found by mDNS: they say that they are there, and where.
//!
//! Nothing that is said there is believed: whoever answers at an address must have the key, or know the code.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use mdns_sd::{ServiceDaemon, ServiceEvent, ServiceInfo};
use sha2::{Digest, Sha256};

use weft_formats::hex;

/// What a Weft that may be paired with is among services.
const KIND: &str = "_weft._tcp.local.";

/// Addresses at most that one search gives.
const MOST: usize = 32;

/// Says that this machine is there, as long as it is kept.
pub(super) struct Announcement(ServiceDaemon);

impl Drop for Announcement {
    fn drop(&mut self) {
        // Others are told that it is gone; nobody waits for that.
        let _ = self.0.shutdown();
    }
}

/// What tells machines apart without showing their keys.
pub(super) fn id(key: &[u8; 32]) -> String {
    let mut hash = Sha256::new();
    hash.update(b"weft machine 1\n");
    hash.update(key);
    hex(&hash.finalize()[..8])
}

/// Says to the network that a machine of this name and key answers at a port.
///
/// # Errors
/// The system has no way to say it.
pub(super) fn announce(name: &str, key: &[u8; 32], port: u16) -> Result<Announcement, String> {
    let daemon = ServiceDaemon::new().map_err(|e| e.to_string())?;
    let host = format!("weft-{}.local.", id(key));
    let info = ServiceInfo::new(KIND, name, &host, "", port, &[("id", id(key).as_str())][..]);
    let info = info.map_err(|e| e.to_string())?.enable_addr_auto();
    daemon.register(info).map_err(|e| e.to_string())?;
    Ok(Announcement(daemon))
}

/// Addresses of machines that say that they are there, of the one with this id or of all; the first of that one is enough.
pub(super) fn find(wanted: Option<&str>, patience: Duration) -> Vec<String> {
    let mut all = BTreeSet::new();
    let Ok(daemon) = ServiceDaemon::new() else { return Vec::new() };
    let until = Instant::now() + patience;
    if let Ok(events) = daemon.browse(KIND) {
        while let Ok(event) = events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            let ServiceEvent::ServiceResolved(found) = event else { continue };
            let id = found.txt_properties.get_property_val_str("id").unwrap_or_default();
            if wanted.is_some_and(|w| w != id) {
                continue;
            }
            let at = |ip: &std::net::Ipv4Addr| format!("{ip}:{}", found.port);
            all.extend(found.get_addresses_v4().iter().map(at));
            if all.len() >= MOST || (wanted.is_some() && !all.is_empty()) {
                break;
            }
        }
    }
    let _ = daemon.shutdown();
    all.into_iter().take(MOST).collect()
}
