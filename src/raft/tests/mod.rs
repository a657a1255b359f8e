//! Three nodes in one process: what must hold when disks hang, wires break and nodes restart.

mod cluster;
mod digests;
mod disk;
mod net;

mod backup;
mod dialling;
mod forming;
mod install;
mod members;
mod reads;
mod recover;
mod repair;
mod safety;
mod snapshots;
mod space;
mod storage;
mod time;
mod watching;
mod writes;
