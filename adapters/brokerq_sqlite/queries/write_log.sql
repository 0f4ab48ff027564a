UPDATE jobs SET log = ? WHERE app = ? AND id = ?
