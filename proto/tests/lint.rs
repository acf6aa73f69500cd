//! House rules for `.proto` files that no compiler checks: everything is explained, enums can grow.

use std::path::Path;

use anyhow::{Result, ensure};
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, ServiceDescriptorProto};

/// One finding a line, all of them at once.
type Findings = Vec<String>;

/// Our own files, with comments and positions.
fn files() -> Result<Vec<FileDescriptorProto>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut compiler = protox::Compiler::new([root])?;
    compiler.include_source_info(true).include_imports(false);
    for entry in std::fs::read_dir(root.join("ringfence/v1"))? {
        compiler.open_file(entry?.path())?;
    }
    let files = compiler.file_descriptor_set().file;
    ensure!(files.len() >= 5, "only {} .proto files found", files.len());
    Ok(files)
}

/// Calls `check` with each element's name and path in the descriptor; see `SourceCodeInfo.Location.path`.
fn each_element(file: &FileDescriptorProto, check: &mut dyn FnMut(&str, &[i32])) {
    for (at, message) in (0..).zip(&file.message_type) {
        each_message(message, message.name(), &[4, at], check);
    }
    for (at, item) in (0..).zip(&file.enum_type) {
        each_enum(item, item.name(), &[5, at], check);
    }
    for (at, service) in (0..).zip(&file.service) {
        each_service(service, &[6, at], check);
    }
}

fn each_message(message: &DescriptorProto, name: &str, path: &[i32], check: &mut dyn FnMut(&str, &[i32])) {
    check(name, path);
    for (at, field) in (0..).zip(&message.field) {
        check(&format!("{name}.{}", field.name()), &[path, &[2, at]].concat());
    }
    for (at, nested) in (0..).zip(&message.nested_type) {
        each_message(nested, &format!("{name}.{}", nested.name()), &[path, &[3, at]].concat(), check);
    }
    for (at, item) in (0..).zip(&message.enum_type) {
        each_enum(item, &format!("{name}.{}", item.name()), &[path, &[4, at]].concat(), check);
    }
}

fn each_enum(item: &EnumDescriptorProto, name: &str, path: &[i32], check: &mut dyn FnMut(&str, &[i32])) {
    check(name, path);
    for (at, value) in (0..).zip(&item.value) {
        check(&format!("{name}.{}", value.name()), &[path, &[2, at]].concat());
    }
}

fn each_service(service: &ServiceDescriptorProto, path: &[i32], check: &mut dyn FnMut(&str, &[i32])) {
    check(service.name(), path);
    for (at, method) in (0..).zip(&service.method) {
        check(&format!("{}.{}", service.name(), method.name()), &[path, &[2, at]].concat());
    }
}

fn uncommented(file: &FileDescriptorProto) -> Findings {
    let locations = file.source_code_info.as_ref().map_or(&[][..], |info| &info.location);
    let mut findings = Findings::new();
    each_element(file, &mut |name, path| {
        let explained = locations
            .iter()
            .any(|location| location.path == path && !location.leading_comments().trim().is_empty());
        if !explained {
            findings.push(format!("{}: {name} has no comment above it", file.name()));
        }
    });
    findings
}

/// `EventKind` → `EVENT_KIND_`.
fn prefix_of(enum_name: &str) -> String {
    let mut prefix = String::new();
    for letter in enum_name.chars() {
        if letter.is_uppercase() && !prefix.is_empty() {
            prefix.push('_');
        }
        prefix.push(letter.to_ascii_uppercase());
    }
    prefix + "_"
}

fn badly_named(file: &FileDescriptorProto) -> Findings {
    let mut findings = Findings::new();
    for item in &file.enum_type {
        let prefix = prefix_of(item.name());
        for value in &item.value {
            if !value.name().starts_with(&prefix) {
                findings.push(format!("{}: {} does not start with {prefix}", file.name(), value.name()));
            }
        }
        let zero = item.value.first().map(|value| (value.name().to_owned(), value.number()));
        if zero != Some((format!("{prefix}UNSPECIFIED"), 0)) {
            findings.push(format!(
                "{}: {} must begin with {prefix}UNSPECIFIED = 0",
                file.name(),
                item.name()
            ));
        }
    }
    for message in &file.message_type {
        for field in &message.field {
            if field
                .name()
                .chars()
                .any(|letter| !(letter.is_ascii_lowercase() || "_0123456789".contains(letter)))
            {
                findings.push(format!(
                    "{}: {}.{} is not lower_snake",
                    file.name(),
                    message.name(),
                    field.name()
                ));
            }
        }
    }
    findings
}

#[test]
fn every_element_has_a_comment() -> Result<()> {
    let findings: Findings = files()?.iter().flat_map(uncommented).collect();
    ensure!(findings.is_empty(), "{}", findings.join("\n"));
    Ok(())
}

#[test]
fn enums_are_prefixed_and_begin_unspecified_and_fields_are_lower_snake() -> Result<()> {
    let findings: Findings = files()?.iter().flat_map(badly_named).collect();
    ensure!(findings.is_empty(), "{}", findings.join("\n"));
    Ok(())
}

/// The lint itself notices: a file with one fault of each sort gives one finding for each.
#[test]
fn faults_are_found() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let text =
        "syntax = \"proto3\";\n// m\nmessage M { string Bad = 1; }\n// e\nenum E {\n // z\n ZERO = 0;\n}\n";
    std::fs::write(dir.path().join("bad.proto"), text)?;
    let mut compiler = protox::Compiler::new([dir.path()])?;
    compiler.include_source_info(true).open_file(dir.path().join("bad.proto"))?;
    let file = compiler.file_descriptor_set().file.remove(0);

    assert_eq!(uncommented(&file), ["bad.proto: M.Bad has no comment above it"]);
    assert_eq!(
        badly_named(&file),
        [
            "bad.proto: ZERO does not start with E_",
            "bad.proto: E must begin with E_UNSPECIFIED = 0",
            "bad.proto: M.Bad is not lower_snake"
        ]
    );
    Ok(())
}
