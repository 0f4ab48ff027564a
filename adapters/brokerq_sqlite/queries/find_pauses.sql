SELECT queue FROM pauses WHERE app = ?
