//! `subgroupBarrier` that orders workgroup memory on Vulkan as well.
//!
//! Where the invocations of one subgroup hand each other values through workgroup memory, a barrier of the subgroup is
//! all they need, and the other subgroups of the workgroup need not wait for it. WGSL has no text for that: the
//! extension's `subgroupBarrier` is silent about workgroup memory. On Metal naga 30 writes
//! `simdgroup_barrier(mem_flags::mem_threadgroup)`, which orders it. For Vulkan it writes an `OpControlBarrier` whose
//! memory semantics name subgroup memory alone, so that a driver may move loads and stores of workgroup memory across
//! it. What naga holds of a shader between reading and writing it can say both kinds of memory at once, so that is where
//! they are put: the barrier's scope stays the subgroup.
//!
//! Mesa's software GPU has all subgroups of a workgroup wait at such a barrier, as if it were the workgroup's
//! (`visit_barrier` in its lp_bld_nir.c looks whether there is a scope, not which), so that a branch which some
//! subgroups take leaves the others a barrier behind. A subgroup is one vector there, whose lanes never part, and
//! ordering memory is all that is left to do: a software GPU gets a barrier of memory alone.

use wgpu::naga::front::wgsl::parse_str;
use wgpu::naga::{Barrier, Block, Module, Statement};

/// The shader in naga's form, with barriers of subgroups that order workgroup memory. `None` where the text has no such
/// barrier, or naga cannot read it: then wgpu says why. `lanes_never_part`: as on a software GPU.
pub(crate) fn ordered(source: &str, lanes_never_part: bool) -> Option<Module> {
    if !source.contains("subgroupBarrier(") {
        return None;
    }
    let mut module = parse_str(source).ok()?;
    let to = match lanes_never_part {
        true => Statement::MemoryBarrier(Barrier::WORK_GROUP),
        false => Statement::ControlBarrier(Barrier::SUB_GROUP | Barrier::WORK_GROUP),
    };
    module.functions.iter_mut().for_each(|(_, f)| order(&mut f.body, &to));
    module.entry_points.iter_mut().for_each(|e| order(&mut e.function.body, &to));
    Some(module)
}

/// Puts `to` in place of each barrier of a subgroup.
fn order(block: &mut Block, to: &Statement) {
    for statement in block.iter_mut() {
        match statement {
            Statement::ControlBarrier(Barrier::SUB_GROUP) => *statement = to.clone(),
            Statement::Block(inner) => order(inner, to),
            Statement::If { accept, reject, .. } => [accept, reject].into_iter().for_each(|b| order(b, to)),
            Statement::Loop { body, continuing, .. } => {
                [body, continuing].into_iter().for_each(|b| order(b, to));
            }
            Statement::Switch { cases, .. } => cases.iter_mut().for_each(|c| order(&mut c.body, to)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn barriers_in_every_kind_of_block_order_workgroup_memory() {
        let source = "
fn called() { subgroupBarrier(); }
@compute @workgroup_size(32)
fn main(@builtin(local_invocation_index) lid: u32) {
    workgroupBarrier();
    if (lid > 1u) { subgroupBarrier(); } else { subgroupBarrier(); }
    for (var i = 0u; i < 2u; i++) { { subgroupBarrier(); } }
    switch lid { case 0u: { subgroupBarrier(); } default: { subgroupBarrier(); } }
    called();
}";
        for (lanes_never_part, expected) in [
            (false, "ControlBarrier(Barrier(WORK_GROUP | SUB_GROUP))"),
            (true, "MemoryBarrier(Barrier(WORK_GROUP))"),
        ] {
            let text =
                format!("{:?}", ordered(source, lanes_never_part).expect("a shader with such barriers"));
            assert_eq!((text.matches(expected).count(), text.matches("Barrier(").count()), (6, 14), "{text}");
        }
        assert!(ordered("fn main() { workgroupBarrier(); }", false).is_none());
        assert!(ordered("fn main() { subgroupBarrier() }", false).is_none());
    }
}
