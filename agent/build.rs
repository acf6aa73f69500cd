//! Embeds the kernel object, names the source revision and the layout of the maps.
//!
//! The kernel object is built by `cargo xtask build-ebpf`, never from here: it needs another compiler. Where there is
//! none, an empty file takes its place and `cfg(ebpf_stub)` is set, so that everything else builds and is tested; the
//! agent then refuses to run, in a sentence.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    let package = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let workspace = package.parent().ok_or("the package agent does not lie inside a workspace")?;
    println!("cargo::rerun-if-changed=build.rs");
    embed_kernel_object(workspace, Path::new(&variable("OUT_DIR")?))?;
    name_revision(workspace);
    name_schema(workspace)
}

fn variable(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("cargo did not set {name}"))
}

/// `OUT_DIR/ringfence-ebpf.o`: the object that `RINGFENCE_EBPF_OBJECT` names, else the one that `cargo xtask
/// build-ebpf` left in `target/bpf`, else nothing and `cfg(ebpf_stub)`.
fn embed_kernel_object(workspace: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed=RINGFENCE_EBPF_OBJECT");
    let named = env::var_os("RINGFENCE_EBPF_OBJECT").map(PathBuf::from);
    let folder = workspace.join("target/bpf");
    let object = match named {
        Some(path) if !path.is_file() => {
            return Err(format!("RINGFENCE_EBPF_OBJECT names {}, which is not a file", path.display()).into());
        }
        Some(path) => Some(path),
        None => {
            // Cargo takes a watched path that does not exist for a change, each time. So that an object which appears
            // later is noticed all the same, a stamp is watched that exists from now on; xtask touches it.
            let stamp = folder.join("object.stamp");
            if !stamp.exists() {
                fs::create_dir_all(&folder)?;
                fs::write(&stamp, "")?;
            }
            println!("cargo::rerun-if-changed={}", stamp.display());
            Some(folder.join("ringfence-ebpf.o")).filter(|path| path.is_file())
        }
    };
    let embedded = out.join("ringfence-ebpf.o");
    match object {
        Some(path) => {
            println!("cargo::rerun-if-changed={}", path.display());
            fs::copy(&path, &embedded).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        }
        None => {
            println!("cargo::rustc-cfg=ebpf_stub");
            fs::write(&embedded, b"")?;
        }
    }
    Ok(())
}

/// Sources of `agent-common` that say nothing of what lies in the maps.
const NOT_LAYOUT: [&str; 4] = ["bytes.rs", "lib.rs", "pod.rs", "probe.rs"];
/// Sources that define a record of the rings.
const RECORD: [&str; 4] = [
    "agent-common/src/address.rs",
    "agent-common/src/flow.rs",
    "agent-common/src/verdict.rs",
    "agent-common/src/wire.rs",
];

/// `RINGFENCE_SCHEMA` and `RINGFENCE_RECORD` for `env!`: digests of the code that defines the maps' layout and the rings'
/// records. An agent takes over maps only if all of it is the same: a number that somebody must remember to count up
/// would one day be forgotten, and a map read by the wrong layout is a wrong verdict. The price of being too careful is
/// small: maps that are not taken over are built anew beside, without a gap.
fn name_schema(workspace: &Path) -> Result<(), Box<dyn Error>> {
    // Tests upgrade between two agents that differ in nothing else.
    let other = env::var_os("CARGO_FEATURE_OTHER_SCHEMA").is_some();
    let mut layout = sources(&workspace.join("agent-common/src"), |path, _| {
        !NOT_LAYOUT.iter().any(|name| path.ends_with(name))
    })?;
    layout.extend(sources(&workspace.join("agent-ebpf/src"), |_, text| text.contains("#[btf_map]"))?);
    let record: Vec<PathBuf> = RECORD.iter().map(|file| workspace.join(file)).collect();
    let schema = digest(&layout, if other { "other" } else { "" })?;
    let record = digest(&record, "")?;
    println!("cargo::rustc-env=RINGFENCE_SCHEMA={schema:016x}");
    println!("cargo::rustc-env=RINGFENCE_RECORD={record}");
    Ok(())
}

/// The files of a folder, those below it left out, that pass; sorted.
fn sources(folder: &Path, passes: impl Fn(&Path, &str) -> bool) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_file() && passes(&path, &fs::read_to_string(&path)?) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// FNV-1a (64 bit) over the lines of code, comments and blank lines left out.
fn digest(sources: &[PathBuf], salt: &str) -> Result<u64, Box<dyn Error>> {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut eat = |text: &str| {
        for byte in text.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    eat(salt);
    for path in sources {
        println!("cargo::rerun-if-changed={}", path.display());
        let text =
            fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let code = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
        code.for_each(&mut eat);
    }
    Ok(hash)
}

/// `RINGFENCE_REVISION` for `env!`: the variable of that name, else the commit, else `unknown`. Debug builds say
/// `debug`, because watching the commit would rebuild the agent after each one.
fn name_revision(workspace: &Path) {
    println!("cargo::rerun-if-env-changed=RINGFENCE_REVISION");
    let release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let revision = match env::var("RINGFENCE_REVISION") {
        Ok(revision) => revision,
        Err(_) if release => commit(workspace).unwrap_or_else(|| "unknown".to_owned()),
        Err(_) => "debug".to_owned(),
    };
    println!("cargo::rustc-env=RINGFENCE_REVISION={revision}");
}

/// The commit that is checked out, watching the files that tell of another: `HEAD` and what it points to.
fn commit(workspace: &Path) -> Option<String> {
    let commit = git(workspace, &["rev-parse", "--short=12", "HEAD"])?;
    let branch = git(workspace, &["symbolic-ref", "--quiet", "HEAD"]);
    for name in ["HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        let path = git(workspace, &["rev-parse", "--git-path", name]).map(|path| workspace.join(path));
        if let Some(path) = path.filter(|path| path.is_file()) {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    Some(commit)
}

fn git(workspace: &Path, arguments: &[&str]) -> Option<String> {
    let answer = Command::new("git").current_dir(workspace).args(arguments).output().ok()?;
    let text = String::from_utf8(answer.stdout).ok()?;
    (answer.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}
