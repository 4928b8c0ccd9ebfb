//! Which of Redis Cluster's hash slots a key belongs to. One ring serves them all; clients of a
//! cluster only want to see the number in `-MOVED`.

/// Hash slots of a cluster.
pub(crate) const HASH_SLOTS: u16 = 16_384;

/// The hash slot of `key`: of its `{tag}` when it has one that is not empty, else of all of it.
pub(crate) fn of(key: &[u8]) -> u16 {
    crc16(tag(key).unwrap_or(key)) % HASH_SLOTS
}

/// What the first `{` and the first `}` behind it enclose.
fn tag(key: &[u8]) -> Option<&[u8]> {
    let open = key.iter().position(|&byte| byte == b'{')?;
    let behind = &key[open + 1..];
    let close = behind.iter().position(|&byte| byte == b'}')?;
    (close > 0).then(|| &behind[..close])
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| (crc << 8) ^ CRC16[usize::from((crc >> 8) as u8 ^ byte)])
}

/// The CRC of each single byte.
const CRC16: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_agree_with_redis_cluster() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        for (key, slot) in [(&b"foo"[..], 12182), (b"bar", 5061), (b"hello", 866), (b"", 0)] {
            assert_eq!(of(key), slot, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn a_tag_decides_the_slot() {
        assert_eq!(of(b"{user1000}.following"), of(b"user1000"));
        assert_eq!(of(b"foo{}{bar}"), crc16(b"foo{}{bar}") % HASH_SLOTS);
        assert_eq!(of(b"foo{{bar}}zap"), of(b"{bar"));
    }
}
