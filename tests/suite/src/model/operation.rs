//! What is done, from any bytes: nested operations.

use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};

/// How many there are of each primitive.
pub(super) const COUNT: usize = 2;

pub(super) type Inside = Vec<Operation>;

#[derive(Arbitrary, Clone, Debug)]
pub(super) enum Operation {
    Lock(Which, Form, Inside),
    LockArc(Which, Form, Inside),
    LockPart(Which, Part, Inside),
    LockWithoutToken(Which, Inside),
    Read(Which, Form, Inside),
    ReadArc(Which, Form, Inside),
    ReadPart(Which, Part, Inside),
    Write(Which, Form, Inside),
    WriteArc(Which, Form, Inside),
    WritePart(Which, Part, Inside),
    Downgrade(Which, Inside),
    DowngradeArc(Which, Inside),
    Unlocked(Which, Inside),
    UnlockedRead(Which, Inside),
    UnlockedWrite(Which, Inside),
    Borrow(Which, Inside),
    BorrowMutably(Which, Inside),
    BorrowBothMutably(Which, Which, Inside),
    BorrowEntered(Which, Inside),
    BorrowEnteredMutably(Which, Inside),
    Fill(Which, CellForm, Inside),
    FailToFill(Which, Inside),
    Set(Which),
    FillCompat(Which, Inside),
    FailToFillCompat(Which, Inside),
    SetCompat(Which),
    Do(Which, DoForm, Inside),
    Get,
    WaitInVain(Which, Limit),
    WaitForWhatIsTrue(Which),
    Notify,
    Meet(Limit),
    ClearPoison(Which),
    Detach,
    Panic,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Form {
    Checked,
    Interruptible,
    Try,
    Timeout(Limit),
    Deadline(Limit),
    /// A timeout, and interruptible by signals.
    Both(Limit),
    Panicking,
}

/// What `map` and `try_map` are asked for.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Part {
    Map,
    TryMap,
    /// There is no such part.
    None,
    /// A part of a part.
    MapTwice,
    /// There is no such part of the part.
    MapThenNone,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum CellForm {
    Checked,
    Py,
    Panicking,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum DoForm {
    Checked,
    Force,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Which(pub(super) usize);

impl<'a> Arbitrary<'a> for Which {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(Which(u.int_in_range(0..=COUNT - 1)?))
    }
}

/// How long a wait takes that is in vain. Short, since there are thousands; often nothing at all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit(pub(super) Duration);

impl<'a> Arbitrary<'a> for Limit {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let micros: u8 = u.int_in_range(0..=100)?;
        Ok(Limit(Duration::from_micros(
            micros.saturating_sub(50).into(),
        )))
    }
}

impl Operation {
    /// What is done inside of this.
    pub(super) fn inside(&mut self) -> Option<&mut Inside> {
        use Operation::*;
        match self {
            Lock(_, _, inside)
            | LockArc(_, _, inside)
            | LockPart(_, _, inside)
            | LockWithoutToken(_, inside)
            | Read(_, _, inside)
            | ReadArc(_, _, inside)
            | ReadPart(_, _, inside)
            | Write(_, _, inside)
            | WriteArc(_, _, inside)
            | WritePart(_, _, inside)
            | Downgrade(_, inside)
            | DowngradeArc(_, inside)
            | Unlocked(_, inside)
            | UnlockedRead(_, inside)
            | UnlockedWrite(_, inside)
            | Borrow(_, inside)
            | BorrowMutably(_, inside)
            | BorrowBothMutably(_, _, inside)
            | BorrowEntered(_, inside)
            | BorrowEnteredMutably(_, inside)
            | Fill(_, _, inside)
            | FailToFill(_, inside)
            | FillCompat(_, inside)
            | FailToFillCompat(_, inside)
            | Do(_, _, inside) => Some(inside),
            Set(_) | SetCompat(_) | Get | WaitInVain(..) | WaitForWhatIsTrue(_) | Notify
            | Meet(_) | ClearPoison(_) | Detach | Panic => None,
        }
    }
}
