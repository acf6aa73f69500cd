//! What the fence costs, beside its peers: `cargo xtask bench` builds everything and becomes this program.

#[path = "../bench/mod.rs"]
mod bench;

fn main() -> anyhow::Result<()> {
    bench::main()
}
