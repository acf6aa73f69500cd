use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use super::{AgentSocket, DirectoryLock, SocketError};

fn bound(path: &Path) -> AgentSocket {
    AgentSocket::bind(path).expect("a socket")
}

#[test]
fn the_socket_is_for_owner_and_group_alone_and_goes_with_its_agent() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("agent.sock");
    let socket = bound(&path);
    let mode = path.metadata().expect("the socket is there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o660);
    UnixStream::connect(&path).expect("it listens");

    drop(socket);
    assert!(!path.exists());
}

#[test]
fn a_socket_that_nobody_answers_on_is_replaced() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("agent.sock");
    drop(UnixListener::bind(&path).expect("a socket that stays behind"));
    assert!(path.exists(), "std leaves the file: the case under test");

    let _socket = bound(&path);
    UnixStream::connect(&path).expect("the new one listens");
}

#[test]
fn a_live_agents_socket_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("agent.sock");
    let _first = bound(&path);
    let error = AgentSocket::bind(&path).expect_err("the first one lives");
    assert!(matches!(error, SocketError::InUse { .. }), "{error}");
    UnixStream::connect(&path).expect("the first one still listens");
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let (file, link) = (dir.path().join("file"), dir.path().join("link"));
    std::fs::write(&file, "precious").expect("a file");
    symlink(&file, &link).expect("a link");
    for path in [&file, &link] {
        let error = AgentSocket::bind(path).expect_err("in the way");
        assert!(matches!(error, SocketError::NotASocket { .. }), "{error}");
    }
    assert_eq!(std::fs::read_to_string(&file).expect("still there"), "precious");
}

#[test]
fn a_missing_directory_is_named_with_the_mend() {
    let dir = tempfile::tempdir().expect("a directory");
    let error = AgentSocket::bind(&dir.path().join("none/agent.sock")).expect_err("no directory");
    let message = error.to_string();
    assert!(message.contains("/none of the socket") && message.contains("mkdir -p"), "{message}");
}

#[test]
fn a_path_longer_than_the_kernel_takes_is_said_to_be_too_long() {
    let dir = tempfile::tempdir().expect("a directory");
    let error = AgentSocket::bind(&dir.path().join("x".repeat(120))).expect_err("too long");
    assert!(error.to_string().contains("at most 107 bytes"), "{error}");
}

#[test]
fn two_starts_at_once_do_not_take_each_others_socket() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("agent.sock");
    let lock = DirectoryLock::take(&path).expect("the first one's lock");
    let error = AgentSocket::bind(&path).expect_err("the other one is at it");
    assert!(matches!(error, SocketError::Busy { .. }), "{error}");
    drop(lock);
    let _socket = bound(&path);
}

#[test]
fn an_agent_that_ends_leaves_its_successors_socket() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("agent.sock");
    let first = bound(&path);
    std::fs::rename(&path, dir.path().join("moved")).expect("an operator moved it");
    let _second = bound(&path);
    let inode = path.metadata().expect("the second one").ino();

    drop(first);
    assert_eq!(path.metadata().expect("still there").ino(), inode);
}
