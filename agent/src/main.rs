fn main() -> anyhow::Result<()> {
    let (mut ebpf, loaded) = agent::bpf::load::load(agent::bpf::object::OBJECT)?;
    for l in loaded {
        println!("{} {:?}", l.name, l.instructions);
    }
    let c = agent::bpf::load::seed(&mut ebpf)?;
    let _m = agent::bpf::image::ImageMaps::take(&mut ebpf, c)?;
    Ok(())
}
