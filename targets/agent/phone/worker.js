// One artifact in one runtime. A classic worker (LiteRT.js calls importScripts), fresh for each job: what it breaks dies with it.
'use strict';

const failed = (error) => postMessage({kind: 'error', message: String(error?.message ?? error)});
self.addEventListener('unhandledrejection', (event) => failed(event.reason));
self.onmessage = ({data}) => import('./task.js').then((task) => task.run(data, postMessage.bind(self))).catch(failed);
