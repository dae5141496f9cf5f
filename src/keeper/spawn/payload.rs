use std::{
    fs::File,
    io::{Seek, Write},
    os::fd::OwnedFd,
};

use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};

use crate::keeper::{protocol::RunSpec, state::Fault};

/// The payload as a sealed file in memory, to be read as often as one likes; none: nothing to read.
pub(super) fn payload(spec: &RunSpec) -> Result<Option<OwnedFd>, Fault> {
    let Some(payload) = &spec.payload else { return Ok(None) };
    let make = || {
        let file = memfd_create(c"payload", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        let mut file = File::from(file);
        file.write_all(payload.get().as_bytes())?;
        file.rewind()?;
        let seals =
            SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        Ok(file.into())
    };
    make().map(Some).map_err(|err: std::io::Error| Fault::Host(format!("no room for the payload: {err}")))
}
