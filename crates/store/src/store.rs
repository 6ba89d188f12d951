//! Opening the database, and the two doors to it.

use crate::Result;

/// The database.
#[derive(Debug, Clone)]
pub struct Store {}

/// Which engine it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// A file of this machine.
    Sqlite,
    /// A server.
    Postgres,
}

/// One transaction. Dropped without [`Tx::commit`], it did nothing.
#[derive(Debug)]
pub struct Tx {}

impl Store {
    /// Opens `sqlite:/dir/stockade.db` or `postgres://…`, and brings its schema up to date.
    pub async fn open(url: &str) -> Result<Self> {
        let _ = url;
        todo!()
    }
    /// Which engine it is.
    pub fn engine(&self) -> Engine {
        todo!()
    }
    /// A consistent snapshot for reading; a write in it fails.
    pub async fn read(&self) -> Result<Tx> {
        todo!()
    }
    /// A transaction that may write.
    pub async fn write(&self) -> Result<Tx> {
        todo!()
    }
    /// Ends all connections and gives up the lock on the file.
    pub async fn close(self) {
        todo!()
    }
}

impl Tx {
    /// Makes all of it durable at once.
    pub async fn commit(self) -> Result<()> {
        todo!()
    }
    /// Undoes all of it.
    pub async fn rollback(self) -> Result<()> {
        todo!()
    }
}
