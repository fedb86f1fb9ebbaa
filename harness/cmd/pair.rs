//! `weft pair`: the other machines that this one uses.

use std::path::PathBuf;

use clap::Args;
use weft_server::Peers;

use crate::{Error, Result, output};

/// Where machines are kept, and what this one is called.
#[derive(Debug, Clone, Args)]
pub(super) struct FolderFlags {
    /// Folder with this machine's key and the machines that are paired [default: weft/machines in the user's folder of
    /// settings]
    #[arg(long, value_name = "DIR", help_heading = "Other machines")]
    pair_dir: Option<PathBuf>,
    /// What this machine calls itself to others [default: its host's name]
    #[arg(long, value_name = "NAME", help_heading = "Other machines")]
    machine_name: Option<String>,
}

/// The user's folder of settings, as the system has it.
fn settings() -> Option<PathBuf> {
    let of = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    match () {
        () if cfg!(windows) => of("APPDATA"),
        () if cfg!(target_os = "macos") => Some(of("HOME")?.join("Library/Application Support")),
        () => of("XDG_CONFIG_HOME").or_else(|| Some(of("HOME")?.join(".config"))),
    }
}

/// The name of this computer, without its domain.
fn host_name() -> Option<String> {
    #[cfg(unix)]
    let name = {
        let mut name = [0_u8; 256];
        // SAFETY: writes at most so many bytes; the last of them stays 0.
        let failed = unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) };
        let end = name.iter().position(|b| *b == 0)?;
        (failed == 0).then(|| String::from_utf8_lossy(&name[..end]).into_owned())
    };
    #[cfg(not(unix))]
    let name = std::env::var("COMPUTERNAME").ok();
    name.and_then(|n| n.split('.').next().map(str::to_owned)).filter(|n| !n.is_empty())
}

impl FolderFlags {
    /// The machines of the folder; None where there is no folder to have them in.
    pub(super) fn peers(&self) -> Option<Peers> {
        let folder = self.pair_dir.clone().or_else(|| Some(settings()?.join("weft").join("machines")))?;
        let name = self.machine_name.clone().or_else(host_name);
        Some(Peers::new(&folder, &name.unwrap_or_default()).looking())
    }

    /// The same, where it is needed.
    ///
    /// # Errors
    /// There is no folder.
    pub(super) fn needed(&self) -> Result<Peers> {
        let line = "this user has no folder of settings; --pair-dir names one for machines";
        self.peers().ok_or_else(|| Error::input(line))
    }
}

/// Use another machine's models, or forget a machine
///
/// On the other machine, `weft serve --pair` shows a code. With it this machine may use that one's models from then on:
/// they are named MODEL@MACHINE, by `weft serve` here and on its page. What is asked and answered goes over a channel
/// that is encrypted, and both sides know each other by keys which the code has exchanged.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft pair K7QX-3M9F-TA2B-CD4E@192.168.1.4
  weft pair K7QX-3M9F-TA2B-CD4E
  weft pair K7QX-3M9F-TA2B-CD4E@desk.local:9000 --name desk
  weft pair --list
  weft pair --remove desk")]
pub(super) struct Flags {
    /// The code that the other machine shows, and where it is; a code alone looks for it in the network (mDNS)
    #[arg(value_name = "CODE[@HOST[:PORT]]", required_unless_present_any = ["list", "remove"])]
    code: Option<String>,
    /// What the other machine is called here [default: what it calls itself]
    #[arg(long, value_name = "NAME", requires = "code")]
    name: Option<String>,
    /// List the machines that are paired
    #[arg(long, conflicts_with_all = ["code", "remove"])]
    list: bool,
    /// Forget the machine of this name, whichever of the two may use the other
    #[arg(long, value_name = "NAME", conflicts_with = "code")]
    remove: Option<String>,
    #[command(flatten)]
    folder: FolderFlags,
}

pub(super) fn run(f: Flags) -> Result<()> {
    let peers = f.folder.needed()?;
    if let Some(name) = &f.remove {
        return match peers.remove(name).map_err(Error::input)? {
            true => {
                output::note(&format!("\"{name}\" is forgotten"));
                Ok(())
            }
            false => {
                Err(Error::input(format!("no machine is called \"{name}\"; weft pair --list shows all")))
            }
        };
    }
    let Some(code) = f.code.filter(|_| !f.list) else { return list(&peers) };
    weft_server::peers::check_code(&code).map_err(Error::usage)?;
    let machine = peers.pair_now(&code, f.name.as_deref()).map_err(Error::input)?;
    output::note(&format!(
        "paired with \"{0}\" at {1}; weft serve has its models as MODEL@{0}",
        machine.name, machine.address
    ));
    Ok(())
}

fn list(peers: &Peers) -> Result<()> {
    let paired = peers.paired().map_err(Error::input)?;
    if paired.machines.is_empty() && paired.guests.is_empty() {
        output::note("no machine is paired; weft serve --pair on another machine shows a code");
    }
    for machine in &paired.machines {
        output::line(&format!("{} at {}: its models can be used here", machine.name, machine.address))?;
    }
    for guest in &paired.guests {
        output::line(&format!("{}: may use the models of this machine", guest.name))?;
    }
    Ok(())
}
