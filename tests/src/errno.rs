//! Error numbers by name, because a test that says `EPERM` reads better than one that says 1.

use rustix::io::Errno;

/// The symbolic name of an error that socket calls return, or `errno <n>` for the rest.
pub fn name(errno: Errno) -> String {
    let known = match errno {
        Errno::PERM => "EPERM",
        Errno::ACCESS => "EACCES",
        Errno::CONNREFUSED => "ECONNREFUSED",
        Errno::CONNRESET => "ECONNRESET",
        Errno::CONNABORTED => "ECONNABORTED",
        Errno::HOSTUNREACH => "EHOSTUNREACH",
        Errno::NETUNREACH => "ENETUNREACH",
        Errno::TIMEDOUT => "ETIMEDOUT",
        Errno::AGAIN => "EAGAIN",
        Errno::INPROGRESS => "EINPROGRESS",
        Errno::ALREADY => "EALREADY",
        Errno::ISCONN => "EISCONN",
        Errno::NOTCONN => "ENOTCONN",
        Errno::DESTADDRREQ => "EDESTADDRREQ",
        Errno::PIPE => "EPIPE",
        Errno::BADF => "EBADF",
        Errno::INVAL => "EINVAL",
        Errno::ADDRNOTAVAIL => "EADDRNOTAVAIL",
        Errno::AFNOSUPPORT => "EAFNOSUPPORT",
        Errno::PROTONOSUPPORT => "EPROTONOSUPPORT",
        Errno::NOMEM => "ENOMEM",
        Errno::MSGSIZE => "EMSGSIZE",
        Errno::NOBUFS => "ENOBUFS",
        Errno::OPNOTSUPP => "EOPNOTSUPP",
        Errno::BUSY => "EBUSY",
        Errno::NODEV => "ENODEV",
        Errno::NOPROTOOPT => "ENOPROTOOPT",
        Errno::SOCKTNOSUPPORT => "ESOCKTNOSUPPORT",
        other => return format!("errno {}", other.raw_os_error()),
    };
    known.to_owned()
}
