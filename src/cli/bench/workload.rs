//! What the clients of a benchmark ask, written straight into the bytes of a request.

use super::wire::write_request;

const JSON: &str = "application/json";

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Workload {
    /// Write a random key.
    KvPut,
    /// Read a random key, at the level of --consistency.
    KvGet,
    /// Post one transfer a request between random accounts.
    Transfer,
    /// Post --batch transfers a request.
    TransferBatch,
}

impl Workload {
    /// The name on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Workload::KvPut => "kv-put",
            Workload::KvGet => "kv-get",
            Workload::Transfer => "transfer",
            Workload::TransferBatch => "transfer-batch",
        }
    }
}

/// The shape of the data.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    /// What is measured.
    pub(super) workload: Workload,
    /// Number of keys.
    pub(super) keys: u64,
    /// Bytes of a value.
    pub(super) value_bytes: usize,
    /// Number of accounts.
    pub(super) accounts: u64,
    /// Transfers in a batch.
    pub(super) batch: u64,
    /// Query of a read, with its question mark.
    pub(super) query: String,
    /// Tells this run's transfers from those of others.
    pub(super) run: String,
}

/// Makes one client's requests.
#[derive(Debug)]
pub(super) struct Maker {
    shape: Shape,
    client: u64,
    made: u64,
    random: u64,
    body: Vec<u8>,
}

impl Maker {
    /// The maker of client number `client`.
    pub(super) fn new(shape: &Shape, client: u64) -> Maker {
        // Any odd number far from zero starts the generator well.
        let random = (client + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Maker {
            shape: shape.clone(),
            client,
            made: 0,
            random,
            body: Vec::new(),
        }
    }

    /// Xorshift: enough to spread keys.
    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound
    }

    /// Writes the next request into `out`.
    pub(super) fn next(&mut self, out: &mut Vec<u8>) {
        out.clear();
        match self.shape.workload {
            Workload::KvPut => {
                let key = self.below(self.shape.keys);
                self.put(key, out);
            }
            Workload::KvGet => {
                let key = self.below(self.shape.keys);
                let target = format!("/v1/kv/bench/{key:08}{}", self.shape.query);
                write_request(out, "GET", &target, "", b"");
            }
            Workload::Transfer => {
                self.body.clear();
                self.transfer();
                write_request(out, "POST", "/v1/transfers", JSON, &self.body);
            }
            Workload::TransferBatch => {
                self.body.clear();
                self.body.extend_from_slice(b"{\"transfers\":[");
                for place in 0..self.shape.batch {
                    if place > 0 {
                        self.body.push(b',');
                    }
                    self.transfer();
                }
                self.body.extend_from_slice(b"]}");
                write_request(out, "POST", "/v1/transfers/batch", JSON, &self.body);
            }
        }
    }

    /// Writes a request that puts key number `key`.
    pub(super) fn put(&mut self, key: u64, out: &mut Vec<u8>) {
        let letter = b'a' + u8::try_from(self.below(26)).expect("below 26");
        self.body.clear();
        self.body.resize(self.shape.value_bytes, letter);
        let target = format!("/v1/kv/bench/{key:08}");
        write_request(out, "PUT", &target, "", &self.body);
    }

    /// Writes a request that creates account number `account`.
    pub(super) fn account(account: u64, out: &mut Vec<u8>) {
        let body = format!("{{\"id\":\"bench:{account:08}\",\"ledger\":\"bench\"}}");
        write_request(out, "POST", "/v1/accounts", JSON, body.as_bytes());
    }

    fn transfer(&mut self) {
        let debit = self.below(self.shape.accounts);
        let credit = (debit + 1 + self.below(self.shape.accounts - 1)) % self.shape.accounts;
        let amount = 1 + self.below(1000);
        let body = &mut self.body;
        body.extend_from_slice(b"{\"id\":\"");
        body.extend_from_slice(self.shape.run.as_bytes());
        body.push(b'-');
        digits(body, self.client, 5);
        body.push(b'-');
        digits(body, self.made, 10);
        body.extend_from_slice(b"\",\"debit_account\":\"bench:");
        digits(body, debit, 8);
        body.extend_from_slice(b"\",\"credit_account\":\"bench:");
        digits(body, credit, 8);
        body.extend_from_slice(b"\",\"amount\":\"");
        digits(body, amount, 4);
        body.extend_from_slice(b"\",\"code\":1}");
        self.made += 1;
    }
}

/// Appends `number` with `width` digits.
fn digits(out: &mut Vec<u8>, mut number: u64, width: usize) {
    let start = out.len();
    out.resize(start + width, b'0');
    for digit in out[start..].iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).expect("one digit");
        number /= 10;
    }
    assert_eq!(number, 0, "the number has more than {width} digits");
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn shape(workload: Workload) -> Shape {
        Shape {
            workload,
            keys: 10,
            value_bytes: 7,
            accounts: 2,
            batch: 3,
            query: "?consistency=lease".to_owned(),
            run: "r".to_owned(),
        }
    }

    fn request(workload: Workload) -> (String, Vec<u8>) {
        let mut out = Vec::new();
        Maker::new(&shape(workload), 0).next(&mut out);
        let head = out.windows(4).position(|end| end == b"\r\n\r\n").unwrap();
        (
            String::from_utf8(out[..head].to_vec()).unwrap(),
            out[head + 4..].to_vec(),
        )
    }

    #[test]
    fn requests_are_what_the_api_takes() {
        let (head, body) = request(Workload::KvPut);
        assert!(head.starts_with("PUT /v1/kv/bench/0000000"), "{head}");
        assert_eq!(body.len(), 7);
        let (head, body) = request(Workload::KvGet);
        assert!(head.contains("?consistency=lease HTTP/1.1"), "{head}");
        assert!(body.is_empty());
        let (_, body) = request(Workload::Transfer);
        let transfer: Value = serde_json::from_slice(&body).unwrap();
        assert_ne!(transfer["debit_account"], transfer["credit_account"]);
        let (head, body) = request(Workload::TransferBatch);
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{head}"
        );
        let batch: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(batch["transfers"].as_array().unwrap().len(), 3);
        assert_ne!(batch["transfers"][0]["id"], batch["transfers"][1]["id"]);
    }
}
