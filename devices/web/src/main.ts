import { createApp } from 'vue'
import App from './App.vue'
import './theme'
import './style/base.css'
import './style/chat.css'
import './style/messages.css'
import './style/people.css'

createApp(App).mount('#app')
