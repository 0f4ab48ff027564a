DELETE FROM payloads WHERE app = ? AND id = ?
