//! The return path, message by message.
//!
//! Generic over the dialect: the codec's tables tell what a field is, and whether a bitmap follows.
//! Only the decoder can fail.

use retpath_codec::bitmap::Bitmap;
use retpath_codec::stream::{Item, Stream};
use retpath_codec::{BlockName, DecodeError, Dialect, NameBuf, Trailer, Value};

use super::fields::Fields;
use super::report::Report;
use super::summary::Counts;
use super::{Options, PageSize};

/// Columns of the longest label, SWITCHOVER_ACK.
pub(super) const WIDTH: usize = 14;

/// A return path that is being decoded.
#[derive(Debug)]
pub(super) struct ReturnPath<D: Dialect> {
    stream: Stream<D>,
    shown: Shown,
    counts: Counts,
    /// Bytes that have been decoded.
    bytes: u64,
}

impl<D: Dialect> ReturnPath<D> {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            stream: Stream::new(options.max_bitmap),
            shown: Shown {
                page_sizes: options.page_sizes.clone(),
                block: None,
                pending: None,
            },
            counts: Counts::default(),
            bytes: 0,
        }
    }

    /// Prints the messages in `input`, all of which is taken.
    pub(super) fn feed(
        &mut self,
        mut input: &[u8],
        report: &mut Report<'_>,
    ) -> Result<(), DecodeError> {
        loop {
            let Some(item) = self.stream.next(&mut input)? else {
                return Ok(());
            };
            match item {
                Item::Message { offset, message } => {
                    self.counts.add(D::label(&message));
                    if !report.is_silent() {
                        self.shown.message::<D>(offset, &message, report);
                    }
                }
                Item::Bitmap { bitmap, .. } => self.shown.bitmap(Some(bitmap), report),
            }
            self.bytes = self.stream.offset();
        }
    }

    /// Ends the recording.
    pub(super) fn finish(&self) -> Result<(), DecodeError> {
        self.stream.finish()
    }

    /// Bytes that have been decoded.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Prints what follows the last message or an error.
    pub(super) fn close(&mut self, options: &Options, report: &mut Report<'_>) {
        self.shown.bitmap(None, report);
        if options.summary {
            self.counts
                .print(self.bytes, options.format, &mut report.out);
        }
    }
}

/// What the lines need of earlier messages.
#[derive(Debug)]
struct Shown {
    page_sizes: Vec<PageSize>,
    /// The block of a request without a name.
    block: Option<NameBuf>,
    /// A message whose bitmap has not arrived; printed together with it.
    pending: Option<Pending>,
}

#[derive(Debug)]
struct Pending {
    offset: u64,
    label: &'static str,
    block: NameBuf,
}

/// The fields of a page request.
#[derive(Clone, Copy, Default)]
struct Request {
    start: Option<u64>,
    len: Option<u64>,
    is_named: bool,
}

impl Shown {
    fn message<D: Dialect>(
        &mut self,
        offset: u64,
        message: &D::Message<'_>,
        report: &mut Report<'_>,
    ) {
        let label = D::label(message);
        let has_bitmap = D::trailer(message) == Trailer::Bitmap;
        let mut request = Request::default();
        D::fields(message, &mut |_, value| match value {
            Value::Offset(start) => request.start = Some(start),
            Value::Bytes(len) => request.len = Some(len),
            Value::Name(Some(name)) if has_bitmap => {
                let block = name.to_buf();
                self.pending = Some(Pending {
                    offset,
                    label,
                    block,
                });
            }
            Value::Name(Some(name)) => {
                request.is_named = true;
                if self.block.as_ref().map(NameBuf::name) != Some(name) {
                    self.block = Some(name.to_buf());
                }
            }
            _ => {}
        });
        if has_bitmap {
            return;
        }
        report.message(offset, label, |fields| {
            D::fields(message, &mut |name, value| {
                fields.put(name, value);
                if matches!(value, Value::Bytes(_)) {
                    self.page(request, fields);
                }
            });
            if let (Some(_), false, Some(block)) = (request.start, request.is_named, &self.block) {
                fields.note("block", format_args!("({block})"));
            }
        });
    }

    /// Notes the first page of a request. Without a page size from the caller, a request is assumed
    /// to be for one page.
    fn page(&self, request: Request, fields: &mut dyn Fields) {
        let (Some(start), Some(len)) = (request.start, request.len) else {
            return;
        };
        let known = self
            .page_sizes
            .iter()
            .find(|known| Some(&known.name) == self.block.as_ref());
        let size = match known {
            Some(known) => known.size,
            None if len.is_power_of_two() && len >= PageSize::SMALLEST => len,
            None => Options::DEFAULT_PAGE,
        };
        fields.page(start, size);
    }

    /// Prints the message that waits for its bitmap, if there is one.
    fn bitmap(&mut self, bitmap: Option<Bitmap<'_>>, report: &mut Report<'_>) {
        let Some(message) = self.pending.take() else {
            return;
        };
        report.message(message.offset, message.label, |fields| {
            fields.put("block", Value::Name(Some(message.block.name())));
            let Some(bitmap) = bitmap else {
                return fields.note("bitmap", format_args!("missing"));
            };
            fields.put("bits", Value::Number(bitmap.bits()));
            fields.put("received", Value::Number(bitmap.received()));
        });
    }
}
