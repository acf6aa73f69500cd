//! The committed generated code and descriptor set are exactly what the `.proto` files give.
//!
//! No `protoc`: `protox` compiles, `tonic-prost-build` generates. To renew what is committed:
//! `RINGFENCE_PROTO_UPDATE=1 cargo test -p agent-proto --test drift`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use prost::Message;

const UPDATE: &str = "RINGFENCE_PROTO_UPDATE";
const MEND: &str =
    "run `RINGFENCE_PROTO_UPDATE=1 cargo test -p agent-proto --test drift` and commit the result";

fn package_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every `.proto` file of the package, relative to the package root, in a stable order.
fn proto_files() -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(package_root().join("ringfence/v1"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    files.sort();
    ensure!(!files.is_empty(), "no .proto files found");
    Ok(files)
}

/// The generated files by name: Rust code, and the descriptor set that reflection serves.
fn generate() -> Result<Vec<(String, Vec<u8>)>> {
    let mut compiler = protox::Compiler::new([package_root()])?;
    compiler.include_imports(true).include_source_info(true).open_files(proto_files()?)?;
    let mut descriptors = compiler.file_descriptor_set();

    let out = tempfile::tempdir()?;
    tonic_prost_build::configure().out_dir(out.path()).compile_fds(descriptors.clone())?;

    let mut files = Vec::new();
    for entry in fs::read_dir(out.path())? {
        let entry = entry?;
        files.push((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?));
    }
    // Comments and positions serve the generator; a reflecting client has no use for them.
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    files.push(("ringfence.v1.bin".to_owned(), descriptors.encode_to_vec()));
    files.sort();
    Ok(files)
}

#[test]
fn committed_code_is_what_the_proto_files_give() -> Result<()> {
    let dir = package_root().join("src/generated");
    let generated = generate()?;
    for (name, bytes) in &generated {
        let path = dir.join(name);
        if std::env::var_os(UPDATE).is_some() {
            fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
        }
        let committed =
            fs::read(&path).with_context(|| format!("src/generated/{name} is missing: {MEND}"))?;
        ensure!(&committed == bytes, "src/generated/{name} differs from the .proto files: {MEND}");
    }
    for entry in fs::read_dir(&dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        ensure!(
            generated.iter().any(|(known, _)| *known == name),
            "src/generated/{name} comes from no .proto file: remove it"
        );
    }
    Ok(())
}
