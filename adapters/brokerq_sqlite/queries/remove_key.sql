DELETE FROM keys WHERE app = ? AND key = ?
