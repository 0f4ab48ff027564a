DELETE FROM pauses WHERE app = ? AND queue = ?
