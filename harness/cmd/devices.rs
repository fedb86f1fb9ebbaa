//! `weft devices`: what GPUs there are.

use clap::Args;
use serde_json::{Value, json};
use weft_kernels::{drivers, tuning};
use weft_models::Profile;
use weft_runtime::{AdapterSummary, Tuning, human};

use crate::{Result, output, report};

/// List the GPUs: limits, features, which limit profiles would fit, and what their drivers are known to fail at
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft devices
  weft devices --json | jq '.[0].features'")]
pub(super) struct Flags {
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

pub(super) fn run(f: Flags) -> Result<()> {
    let adapters = pollster::block_on(weft_runtime::adapters());
    if adapters.is_empty() {
        return Err(weft_runtime::Error::NoAdapter.into());
    }
    if f.json {
        return output::json(&adapters.iter().map(as_json).collect::<Vec<_>>().into());
    }
    for a in &adapters {
        let (caps, l) = (&a.caps, &a.caps.limits);
        output::line(&format!("{}: {}", a.index, report::device_line(caps)))?;
        output::line(&format!("   driver    {}", caps.driver))?;
        output::line(&format!("   features  {}", report::features_line(caps)))?;
        output::line(&format!(
            "   limits    binding {}, buffer {}, workgroups {}, workgroup memory {}, invocations {}, storage buffers {}",
            human(l.max_storage_buffer_binding_size),
            human(l.max_buffer_size),
            l.max_compute_workgroups_per_dimension,
            human(l.max_compute_workgroup_storage_size.into()),
            l.max_compute_invocations_per_workgroup,
            l.max_storage_buffers_per_shader_stage,
        ))?;
        let fitting = profiles(a);
        let fitting = if fitting.is_empty() { "none".to_owned() } else { fitting.join(", ") };
        output::line(&format!("   profiles  {fitting}"))?;
        output::line(&format!("   tuning    {}", report::tuning_line(&tuning(a))))?;
        for f in drivers::of(caps) {
            output::line(&format!("   fails at  {}", f.line()))?;
        }
    }
    Ok(())
}

/// What a command on this device would take.
fn tuning(a: &AdapterSummary) -> Tuning {
    weft_runtime::default_cache().map_or_else(Tuning::default, |folder| tuning::read(&folder, &a.caps))
}

fn profiles(a: &AdapterSummary) -> Vec<&'static str> {
    Profile::ALL.into_iter().filter(|p| p.fits(&a.caps)).map(Profile::name).collect()
}

fn as_json(a: &AdapterSummary) -> Value {
    let mut value = json!({ "index": a.index });
    for (key, v) in report::caps_json(&a.caps).as_object().into_iter().flatten() {
        value[key] = v.clone();
    }
    value["limits"] = report::limits_json(&a.caps);
    value["profiles"] = profiles(a).into();
    value["tuning"] = json!(tuning(a).file);
    let failures = drivers::of(&a.caps)
        .map(|f| json!({ "op": f.op, "variants": f.variants, "what": f.what, "link": f.link }));
    value["known_failures"] = failures.collect::<Vec<_>>().into();
    value
}
