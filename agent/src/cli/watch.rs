//! `ringfence watch`: the agent's events, one a line, as they happen.

pub mod args;
mod compact;

use std::future::poll_fn;
use std::io::Write;
use std::pin::Pin;
use std::task::Poll;

use agent_proto::v1;
use agent_proto::v1::event_service_client::EventServiceClient;
use tokio::time::{Instant, timeout_at};
use tokio_stream::Stream;
use tonic::Streaming;

use self::args::{Format, WatchArgs};
use super::client::{ClientError, connect};
use super::output::{Exit, Style};
use crate::events::model::json::Line;
use crate::events::model::words::Kind;
use crate::events::model::{Origin, Stamped};
use crate::grpc::convert::event_in;

/// Prints events until `--count` or `--timeout` is reached; without them, until the agent ends.
///
/// # Errors
/// When no agent answers or it goes away, when it refuses a filter, when the output can't be written, and
/// when `--timeout` comes before `--count`.
pub async fn watch(args: &WatchArgs, style: Style, out: &mut impl Write) -> Result<Exit, ClientError> {
    let deadline = args.timeout.map(|time| Instant::now() + time);
    let mut printer = Printer { format: args.output, style, out, printed: 0 };
    let stream = stream_events(args, &mut printer);
    match deadline {
        None => stream.await?,
        Some(deadline) => {
            if let Ok(ended) = timeout_at(deadline, stream).await {
                ended?;
            }
        }
    }
    printer.out.flush()?;
    let printed = printer.printed;
    match args.count {
        Some(count) if printed < count => {
            Err(ClientError::Unfulfilled(format!("{printed} of {count} events came before the timeout")))
        }
        Some(_) | None => Ok(Exit::Fine),
    }
}

/// Ends well once `--count` is reached; `Gone` when the agent ends the stream.
async fn stream_events<W: Write>(args: &WatchArgs, printer: &mut Printer<'_, W>) -> Result<(), ClientError> {
    let mut client = EventServiceClient::new(connect(&args.agent.socket).await?);
    let mut stream = client.watch(args.request()).await?.into_inner();
    while args.count.is_none_or(|count| printer.printed < count) {
        let Some(event) = printer.next(&mut stream).await? else { return Err(ClientError::Gone) };
        let (origin, stamped) = event_in::event(event)?;
        printer.print(&origin, &stamped)?;
    }
    Ok(())
}

/// Writes events; what it has written is seen as soon as nothing more is waiting.
struct Printer<'a, W> {
    format: Format,
    style: Style,
    out: &'a mut W,
    /// Violations and flows so far: what `--count` counts.
    printed: u64,
}

impl<W: Write> Printer<'_, W> {
    /// The next message. Flushes when there is none yet: a busy stream is written in large pieces, and
    /// on a quiet one every line is there at once.
    async fn next(&mut self, stream: &mut Streaming<v1::Event>) -> Result<Option<v1::Event>, ClientError> {
        poll_fn(|cx| match Pin::new(&mut *stream).poll_next(cx) {
            Poll::Ready(message) => Poll::Ready(message.transpose().map_err(ClientError::from)),
            Poll::Pending => match self.out.flush() {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error.into())),
            },
        })
        .await
    }

    fn print(&mut self, origin: &Origin, stamped: &Stamped) -> std::io::Result<()> {
        let kind = stamped.event.kind();
        match self.format {
            Format::Json => {
                serde_json::to_writer(&mut *self.out, &Line::new(origin, stamped))?;
                self.out.write_all(b"\n")?;
            }
            Format::Compact => {
                if let Some(line) = compact::line(stamped, self.style) {
                    writeln!(self.out, "{line}")?;
                }
            }
        }
        if matches!(kind, Kind::Violation | Kind::Flow) {
            self.printed += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "watch/tests.rs"]
mod tests;
