UPDATE jobs SET buried = ? WHERE app = ? AND id = ?
