UPDATE jobs SET cancelling = 1 WHERE app = ? AND id = ?
