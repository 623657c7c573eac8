// Browsers refuse workers to pages opened from a folder (file://), and the search runs in one. There, a hidden frame takes
// the place of the worker: the script runs in it, and messages go to and fro as events.
if (location.protocol === 'file:') {
  window.Worker = class extends EventTarget {
    constructor(script) {
      super()
      const frame = document.createElement('iframe')
      frame.hidden = true
      document.documentElement.append(frame)
      this.inside = frame.contentWindow
      this.inside.postMessage = data => this.dispatchEvent(new MessageEvent('message', { data }))
      this.loaded = new Promise((resolve, reject) => {
        const tag = this.inside.document.createElement('script')
        Object.assign(tag, { src: new URL(script, location.href), onload: resolve, onerror: reject })
        this.inside.document.head.append(tag)
      })
    }

    async postMessage(data) {
      await this.loaded
      this.inside.dispatchEvent(new MessageEvent('message', { data }))
    }
  }
}
