// A tus server for the directory named first. It prints its port once it listens.
import { createServer } from 'node:http'
import { FileStore } from '@tus/file-store'
import { Server } from '@tus/server'

const tus = new Server({ path: '/files', datastore: new FileStore({ directory: process.argv[2] }) })
const server = createServer(tus.handle.bind(tus))
server.listen(0, '127.0.0.1', () => console.log(`listening ${server.address().port}`))
