import { createApp } from 'vue'
import AdminApp from './AdminApp.vue'
import '../theme'
import '../style/base.css'
import './admin.css'

createApp(AdminApp).mount('#app')
